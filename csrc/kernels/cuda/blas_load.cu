// Finding libcublasLt: it is never linked. In order: FASTNN_CUBLASLT (a path, or "off"), one that
// the process has loaded already (torch's), the folders of the wheels, the loader's own path.
#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "blas_api.h"
#include "device.h"
#include "port.h"

namespace fastnn::blas {
namespace {

constexpr const char* kNames[] = {"libcublasLt.so.13", "libcublasLt.so.12"};
constexpr size_t kOldest = 120000;

std::string& folders() {
  static auto* text = new std::string;
  return *text;
}

device::Each<void*>& handles() {
  static auto* all = new device::Each<void*>;
  return *all;
}

struct Found {
  void* handle = nullptr;
  std::string reason = "no libcublasLt.so.13 or .12 was found; pip install nvidia-cublas";
};

#ifndef FASTNN_EMULATOR
void* open_in_folders() {
  const std::string& all = folders();
  for (size_t begin = 0; begin < all.size();) {
    const size_t end = std::min(all.find(':', begin), all.size());
    for (const char* name : kNames) {
      const std::string path = all.substr(begin, end - begin) + "/" + name;
      if (void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return handle;
    }
    begin = end + 1;
  }
  return nullptr;
}
#endif

Found find() {
  const char* forced = std::getenv("FASTNN_CUBLASLT");
  if (forced != nullptr && *forced != '\0') {
    if (std::string(forced) == "off") return {nullptr, "FASTNN_CUBLASLT is off"};
    Found found{dlopen(forced, RTLD_NOW | RTLD_LOCAL), ""};
    if (found.handle == nullptr) found.reason = dlerror();
    return found;
  }
#ifdef FASTNN_EMULATOR
  return {nullptr, "the emulator has no cuBLASLt"};
#else
  Found found;
  for (const char* name : kNames)
    if (found.handle == nullptr) found.handle = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
  if (found.handle == nullptr) found.handle = open_in_folders();
  for (const char* name : kNames)
    if (found.handle == nullptr) found.handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  return found;
#endif
}

// The entry points; the name of the first that is missing, or null.
const char* load(void* handle, Api* api) {
  const char* missing = nullptr;
  const auto entry = [&](auto* function, const char* name) {
    void* symbol = dlsym(handle, name);
    if (symbol == nullptr && missing == nullptr) missing = name;
    *reinterpret_cast<void**>(function) = symbol;
  };
  entry(&api->version, "cublasLtGetVersion");
  entry(&api->create, "cublasLtCreate");
  entry(&api->description_create, "cublasLtMatmulDescCreate");
  entry(&api->description_set, "cublasLtMatmulDescSetAttribute");
  entry(&api->layout_create, "cublasLtMatrixLayoutCreate");
  entry(&api->layout_set, "cublasLtMatrixLayoutSetAttribute");
  entry(&api->preference_create, "cublasLtMatmulPreferenceCreate");
  entry(&api->preference_set, "cublasLtMatmulPreferenceSetAttribute");
  entry(&api->preference_destroy, "cublasLtMatmulPreferenceDestroy");
  entry(&api->heuristic, "cublasLtMatmulAlgoGetHeuristic");
  entry(&api->matmul, "cublasLtMatmul");
  return missing;
}

// Where the library lies, as the loader knows it.
std::string path_of(const void* function) {
  Dl_info info;
  return dladdr(function, &info) != 0 && info.dli_fname != nullptr ? info.dli_fname : "libcublasLt";
}

Library open() {
  static auto* texts = new std::vector<std::string>(2);  // path and reason
  Library library{};
  const auto refuse = [&](const std::string& reason) {
    (*texts)[1] = reason;
    library.path = nullptr, library.reason = (*texts)[1].c_str();
    return library;
  };
  const Found found = find();
  if (found.handle == nullptr) return refuse(found.reason);
  void* any = dlsym(found.handle, "cublasLtGetVersion");
  const std::string path = (*texts)[0] = any != nullptr ? path_of(any) : "the library found";
  if (const char* missing = load(found.handle, &library.api))
    return refuse(path + " has no " + missing);
  const size_t version = library.api.version();
  library.version = static_cast<int64_t>(version);
  if (version < kOldest)
    return refuse(path + " is cuBLASLt " + std::to_string(version / 10000) + "." +
                  std::to_string(version / 100 % 100) + ", expected 12.0 or newer");
#ifdef FASTNN_EMULATOR
  // A library for tests takes its turn on emulated streams by this.
  if (auto* launch = static_cast<decltype(&cudaLaunchHostFunc)*>(
          dlsym(found.handle, "fastnn_emulated_launch")))
    *launch = cudaLaunchHostFunc;
#endif
  if (const Status status = library.api.create(&handles().here()); status != 0)
    return refuse(path + ": cublasLtCreate returned " + std::to_string(status));
  library.path = (*texts)[0].c_str(), library.reason = "";
  return library;
}

}  // namespace

const Library& library() {
  static const Library found = open();
  return found;
}
void* handle() {
  void*& made = handles().here();
  if (made == nullptr && library().api.create(&made) != 0) made = nullptr;
  return made;
}
void set_folders(const char* paths) { folders() = paths; }

}  // namespace fastnn::blas

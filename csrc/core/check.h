// Errors that a caller can act on: "<op>: expected <rule>, got <value>". Each class becomes one
// Python exception; check() formats only when the condition fails.
#pragma once
#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>

namespace fastnn {

struct ValueError : std::runtime_error {
  using runtime_error::runtime_error;
};
struct TypeError : std::runtime_error {
  using runtime_error::runtime_error;
};
struct CaptureError : std::runtime_error {
  using runtime_error::runtime_error;
};
struct CudaError : std::runtime_error {
  using runtime_error::runtime_error;
};
struct OutOfMemory : std::runtime_error {
  using runtime_error::runtime_error;
};

template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

template <class Error = ValueError, class... Parts>
inline void check(bool condition, const Parts&... parts) {
  if (!condition) [[unlikely]]
    throw Error(concat(parts...));
}

}  // namespace fastnn

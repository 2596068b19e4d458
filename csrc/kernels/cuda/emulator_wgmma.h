// What wgmma/instructions.h is under the emulator: the semantics of the PTX ISA and of the driver's
// tensor maps. What the device does asynchronously (tiles, products) happens as early or as late as
// it may, as the schedule has it. Invariant: what the device leaves undefined, or would hang on, is
// an error that says so.
#pragma once
#include <cmath>
#include <cstdlib>
#include <vector>

#include "port.h"
#include "wgmma/descriptor.h"

#define FASTNN_HAS_WGMMA 1

namespace fastnn::wgmma {

// ---- shared memory by address ------------------------------------------------------------------
inline constexpr uint32_t kSharedBase = 1024;  // so that no address is an offset by accident
inline uint32_t shared_address(const void* p) {
  return kSharedBase + static_cast<uint32_t>(static_cast<const char*>(p) -
                                             static_cast<char*>(emulator::dynamic_shared()));
}
// Null, and a fault, outside of it.
inline unsigned char* shared_at(uint32_t address, uint32_t bytes) {
  if (address < kSharedBase || address + bytes > kSharedBase + emulator::dynamic_shared_bytes()) {
    emulator::fault("shared address " + std::to_string(address) + " is outside of the block's");
    return nullptr;
  }
  return static_cast<unsigned char*>(emulator::dynamic_shared()) + (address - kSharedBase);
}
inline uint32_t swizzled(uint32_t address) { return address ^ (address >> 7 & 7) << 4; }

// ---- barriers ----------------------------------------------------------------------------------
// In the 64 bits that the device keeps to itself. Poisoned memory is no barrier.
struct Barrier {
  int32_t bytes;  // that are expected and have not come
  uint16_t arrivals, pending : 15, parity : 1;
};
static_assert(sizeof(Barrier) == 8);

inline bool is_barrier(const Barrier* barrier) {
  const bool ok = barrier->arrivals != 0xffff && barrier->arrivals != 0;
  if (!ok) emulator::fault("a barrier was used before it was initialised");
  return ok;
}
inline void end_phase(Barrier* barrier) {
  if (barrier->pending != 0 || barrier->bytes != 0) return;
  barrier->parity ^= 1;
  barrier->pending = barrier->arrivals & 0x7fff;
}
inline void initialise(Barrier* barrier, uint32_t arrivals) {
  *barrier = {0, static_cast<uint16_t>(arrivals), static_cast<uint16_t>(arrivals & 0x7fff), 0};
}
inline void publish_barriers() {}
inline void arrive_expecting(Barrier* barrier, uint32_t bytes) {
  if (!is_barrier(barrier)) return;
  if (barrier->pending == 0) return emulator::fault("more arrivals than a barrier waits for");
  barrier->bytes += static_cast<int32_t>(bytes);
  --barrier->pending;
  end_phase(barrier);
}
inline void arrive(Barrier* barrier) { arrive_expecting(barrier, 0); }
inline void wait(Barrier* barrier, uint32_t parity,
                 std::source_location where = std::source_location::current()) {
  if (!is_barrier(barrier)) return;
  const auto ended = [](const void* object, uint64_t asked) {
    return static_cast<const Barrier*>(object)->parity != asked;
  };
  emulator::wait({.kind = emulator::Wait::kEvent,
                  .where = where,
                  .happened = ended,
                  .object = barrier,
                  .value = parity});
}

// ---- tiles -------------------------------------------------------------------------------------
// The driver's is opaque, and of 128 bytes too.
struct TensorMap {
  const unsigned char* base;
  uint64_t extent[3];
  uint64_t stride[2];  // in bytes, of the outer two axes
  uint32_t box[3];
  uint32_t size;     // of an element, in bytes
  uint32_t to_tf32;  // rounds float32 on the way
};

// What TMA makes of float32 where the map says TF32: 10 bits of the mantissa, to nearest.
inline uint32_t tf32_bits(uint32_t bits) {
  if ((bits & 0x7fffffff) > 0x7f800000) return bits;
  return (bits + 0xfff + (bits >> 13 & 1)) & ~0x1fffu;
}

inline void copy_box(unsigned char* to, uint32_t address, const TensorMap& map, const int64_t* at) {
  const auto inside = [&](int axis, int64_t i) {
    return i >= 0 && i < static_cast<int64_t>(map.extent[axis]);
  };
  uint32_t offset = 0;
  for (uint32_t z = 0; z < map.box[2]; ++z)
    for (uint32_t y = 0; y < map.box[1]; ++y)
      for (uint32_t x = 0; x < map.box[0]; ++x, offset += map.size) {
        uint32_t bits = 0;  // outside
        const int64_t i = at[0] + x, j = at[1] + y, k = at[2] + z;
        if (inside(0, i) && inside(1, j) && inside(2, k))
          std::memcpy(&bits,
                      map.base + static_cast<uint64_t>(k) * map.stride[1] +
                          static_cast<uint64_t>(j) * map.stride[0] +
                          static_cast<uint64_t>(i) * map.size,
                      map.size);
        if (map.to_tf32) bits = tf32_bits(bits);
        std::memcpy(to + (swizzled(address + offset) - address), &bits, map.size);
      }
}

inline void load_tile(void* to, const TensorMap* map, Barrier* barrier, int32_t x, int32_t y,
                      int32_t z) {
  const uint32_t address = shared_address(to);
  const uint32_t bytes = map->box[0] * map->box[1] * map->box[2] * map->size;
  if (address % kAtomBytes != 0)
    return emulator::fault("a tile begins within the pattern of its swizzle");
  unsigned char* memory = shared_at(address, bytes);
  if (memory == nullptr || !is_barrier(barrier)) return;
  emulator::later([=, map = *map] {
    const int64_t at[] = {x, y, z};
    copy_box(memory, address, map, at);
    barrier->bytes -= static_cast<int32_t>(bytes);
    end_phase(barrier);
  });
}

// ---- products ----------------------------------------------------------------------------------
// What a thread has issued: each thread makes its own part, when the products' time has come.
struct Products {
  uint64_t block = 0;
  bool fenced = false;
  std::vector<std::vector<std::function<void()>>> groups;  // the last one is open
};
inline Products& products() {
  static std::vector<Products> all(1024);
  Products& own = all[threadIdx.x];
  if (own.block != emulator::block_serial()) {
    own.block = emulator::block_serial(), own.fenced = false;
    own.groups.assign(1, {});
  }
  return own;
}
inline void fence(std::source_location where = std::source_location::current()) {
  __syncwarp(~0u, where);
  products().fenced = true;
}
inline void commit(std::source_location where = std::source_location::current()) {
  __syncwarp(~0u, where);
  Products& own = products();
  own.groups.emplace_back();
  own.fenced = false;
}
template <int kGroups>
void wait_products(std::source_location where = std::source_location::current()) {
  Products& own = products();
  while (own.groups.size() > kGroups + 1) {
    for (const auto& product : own.groups.front()) product();
    own.groups.erase(own.groups.begin());
  }
  __syncwarp(~0u, where);  // all lanes are done, so one may speak for the warp
}
template <int kCount>
void settle(float (&)[kCount]) {}

// A factor behind a descriptor, for the elements at (side, k).
template <class T>
struct Factored {
  uint32_t start, leading, stride;
  bool along_k;

  Factored(uint64_t bits, bool k_first)
      : start(static_cast<uint32_t>(bits & 0x3fff) << 4),
        leading(static_cast<uint32_t>(bits >> 16 & 0x3fff) << 4),
        stride(static_cast<uint32_t>(bits >> 32 & 0x3fff) << 4),
        along_k(k_first) {
    if (bits >> 62 != kSwizzle128) emulator::fault("only swizzles of 128 bytes are emulated");
    if (start % kAtomBytes >= kLineBytes || (bits >> 49 & 7) != 0)
      emulator::fault("a matrix begins within the pattern of its swizzle");
  }
  float at(int side, int k) const {
    constexpr auto kSize = static_cast<uint32_t>(sizeof(T));
    constexpr uint32_t kBlock = kLineBytes / kSize;
    const auto s = static_cast<uint32_t>(side), p = static_cast<uint32_t>(k);
    const uint32_t offset =
        along_k ? s / 8 * stride + s % 8 * kLineBytes + p * kSize
                : s / kBlock * leading + s % kBlock * kSize + p / 8 * stride + p % 8 * kLineBytes;
    const unsigned char* memory = shared_at(swizzled(start + offset), kSize);
    if (memory == nullptr) return NAN;
    T x;
    std::memcpy(&x, memory, sizeof x);
    if constexpr (sizeof(T) == 4) {  // the lowest 13 bits do not count
      return from_bits(to_bits(x) & ~0x1fff);
    } else {
      return to_float(x);
    }
  }
};

// FASTNN_EMULATOR_WGMMA=wrong: so that what is made of wrong products can be tested.
inline bool are_wrong() {
  const char* asked = std::getenv("FASTNN_EMULATOR_WGMMA");
  return asked != nullptr && std::strcmp(asked, "wrong") == 0;
}
template <class T, int kCols, bool kAAlongK, bool kBAlongK>
void multiply_now(float* d, uint64_t a_bits, uint64_t b_bits) {
  constexpr int kDepth = 32 / sizeof(T);
  const Factored<T> a(a_bits, kAAlongK), b(b_bits, kBAlongK);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  if (are_wrong() && threadIdx.x % kWarp == 0) d[1] += 1;
  float rows[2][kDepth];
  for (int i = 0; i < 2; ++i)
    for (int p = 0; p < kDepth; ++p) rows[i][p] = a.at(warp % 4 * 16 + lane / 4 + 8 * i, p);
  for (int i = 0; i < kCols / 2; ++i) {
    if (i / 2 % 2 == 1) continue;  // with the one above it
    const int col = 8 * (i / 4) + 2 * (lane % 4) + i % 2;
    for (int p = 0; p < kDepth; ++p) {
      const float x = b.at(col, p);
      d[i] += rows[0][p] * x, d[i + 2] += rows[1][p] * x;
    }
  }
}

template <class T, int kCols, bool kAAlongK, bool kBAlongK>
void multiply(float (&d)[kCols / 2], uint64_t a, uint64_t b) {
  Products& own = products();
  if (!own.fenced) return emulator::fault("a product without a fence since the last group");
  float* sums = d;
  const auto now = [=] { multiply_now<T, kCols, kAAlongK, kBAlongK>(sums, a, b); };
  if (emulator::at_once() && own.groups.back().empty() && own.groups.size() == 1) return now();
  own.groups.back().push_back(now);
}

// ---- matrices to shared memory, registers ------------------------------------------------------
inline void store_matrices(void* row, const uint32_t (&x)[4],
                           std::source_location where = std::source_location::current()) {
  const uint32_t lane = emulator::lane();
  const uint32_t address = shared_address(row);
  if (address % 16 != 0) emulator::fault("a row of a matrix is not 16-byte aligned");
  for (uint32_t j = 0; j < 4; ++j) {
    const uint32_t to = emulator::exchange(~0u, address, 8 * j + lane / 4, where);
    if (unsigned char* memory = shared_at(to + lane % 4 * 4, 4)) std::memcpy(memory, &x[j], 4);
  }
}
template <size_t kCount>
void store_words(void* to, const uint32_t (&x)[kCount]) {
  if (reinterpret_cast<uintptr_t>(to) % sizeof x != 0) emulator::fault("words are not aligned");
  std::memcpy(to, x, sizeof x);
}
template <int kCount>
void give_registers(std::source_location where = std::source_location::current()) {
  static_assert(kCount >= 24 && kCount <= 256 && kCount % 8 == 0);
  __syncwarp(~0u, where);
}
template <int kCount>
void take_registers(std::source_location where = std::source_location::current()) {
  give_registers<kCount>(where);
}

}  // namespace fastnn::wgmma

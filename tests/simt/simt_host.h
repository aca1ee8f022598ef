#pragma once
// What tensor/simt.cuh is under a host compiler: the same names, by way of the engine.

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "tests/simt/engine.h"

// Not inlined into whoever launches it: the recorder watches kernels, not launches.
#define HYBRID_KERNEL(...) static __attribute__((noinline)) void
#define HYBRID_DEVICE inline
#define HYBRID_UNROLL
#define HYBRID_UNROLL_BY(n)
#define HYBRID_NO_UNROLL
#define HYBRID_SHARED(name, ...)                                                 \
  static char name##_place;                                                      \
  auto& name = *static_cast<hybrid::cuda::Same<__VA_ARGS__>*>(                   \
      simt::shared_array(&name##_place, sizeof(hybrid::cuda::Same<__VA_ARGS__>), \
                         alignof(hybrid::cuda::Same<__VA_ARGS__>)))
#define HYBRID_DYNAMIC_SHARED(name) \
  unsigned char* const name = static_cast<unsigned char*>(simt::dynamic_shared())

struct uint2 {
  uint32_t x, y;
} __attribute__((aligned(8)));
struct uint4 {
  uint32_t x, y, z, w;
} __attribute__((aligned(16)));
struct float2 {
  float x, y;
} __attribute__((aligned(8)));
struct float4 {
  float x, y, z, w;
} __attribute__((aligned(16)));

inline void __syncthreads() { simt::sync_block(); }
inline void __syncwarp(uint32_t mask = ~0u) { simt::sync_warp(mask); }

template <class T>
T __shfl_sync(uint32_t mask, T value, int from, int width = 32) {
  const auto lane = static_cast<int>(simt::lane());
  T result;
  simt::shuffle(mask, &value, &result, sizeof(T),
                static_cast<uint32_t>((lane & ~(width - 1)) | (from & (width - 1))));
  return result;
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int flip, int width = 32) {
  const auto lane = static_cast<int>(simt::lane());
  const int from = lane ^ flip;
  const bool inside = (from & ~(width - 1)) <= (lane & ~(width - 1));
  T result;
  simt::shuffle(mask, &value, &result, sizeof(T), static_cast<uint32_t>(inside ? from : lane));
  return result;
}
template <class T>
T __shfl_up_sync(uint32_t mask, T value, int delta, int width = 32) {
  const auto lane = static_cast<int>(simt::lane());
  const int from = lane - delta;
  T result;
  simt::shuffle(mask, &value, &result, sizeof(T),
                static_cast<uint32_t>(from >= (lane & ~(width - 1)) ? from : lane));
  return result;
}
inline uint32_t __ballot_sync(uint32_t mask, int predicate) {
  return simt::ballot(mask, predicate != 0);
}
inline int __popc(uint32_t x) { return std::popcount(x); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline void __threadfence() {}

namespace hybrid::cuda {

template <class T>
using Same = T;
using Grid = simt::Dim3;

template <class... Parameters, class... Arguments>
CudaStatus launch(void (*kernel)(Parameters...), Grid grid, Grid block, size_t shared_bytes,
                  CudaStream, Arguments&&... arguments) {
  // Reads the launching function's variables, which are no device memory.
  auto body = [&]() __attribute__((no_sanitize("thread"))) {
    kernel(static_cast<Parameters>(arguments)...);
  };
  struct Trampoline {
    __attribute__((no_sanitize("thread"))) static void run(void* b) {
      (*static_cast<decltype(body)*>(b))();
    }
  };
  simt::run(grid, block, shared_bytes, Trampoline::run, &body);
  return 0;
}

inline float half_to_float(f16_t h) { return f16_to_f32(h); }
inline f16_t float_to_half(float x) { return f32_to_f16(x); }
inline bf16_t float_to_bf16(float x) { return f32_to_bf16(x); }
inline float bits_to_float(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint32_t float_to_bits(float x) { return std::bit_cast<uint32_t>(x); }
inline uint32_t pack_bf16(float low, float high) {
  return f32_to_bf16(low) | static_cast<uint32_t>(f32_to_bf16(high)) << 16;
}
inline uint32_t pack_half(float low, float high) {
  return f32_to_f16(low) | static_cast<uint32_t>(f32_to_f16(high)) << 16;
}

inline uint32_t byte_perm(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = a | static_cast<uint64_t>(b) << 32;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    result |= static_cast<uint32_t>(bytes >> (selector >> (4 * i) & 7) * 8 & 255) << (8 * i);
  }
  return result;
}

inline int32_t dot_unsigned(uint32_t a, uint32_t b, int32_t c) {
  for (int i = 0; i < 32; i += 8) {
    c += static_cast<int32_t>(a >> i & 255) * static_cast<int8_t>(b >> i);
  }
  return c;
}
inline int32_t dot_signed(uint32_t a, uint32_t b, int32_t c) {
  for (int i = 0; i < 32; i += 8) c += static_cast<int8_t>(a >> i) * static_cast<int8_t>(b >> i);
  return c;
}

inline float exp2_fast(float x) { return std::exp2(x); }
inline void prefetch_l2(const void*) {}
inline uint32_t load_weight(const uint32_t* p) { return *p; }

inline void copy_async_16(void* to, const void* from, bool is_valid) {
  simt::copy_async(to, from, 16, is_valid ? 16 : 0);
}
inline void commit_copies() { simt::commit_copies(); }
template <int kLeft>
void wait_copies() {
  simt::wait_copies(kLeft);
}

inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  simt::mma_m16n8k16(d, a, b, false);
}
inline void mma_half(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  simt::mma_m16n8k16(d, a, b, true);
}
inline void ldmatrix(uint32_t (&r)[4], const void* row) { simt::ldmatrix(r, row, 4, false); }
inline void ldmatrix_transposed(uint32_t (&r)[4], const void* row) {
  simt::ldmatrix(r, row, 4, true);
}

}  // namespace hybrid::cuda

#pragma once
// The widest vector of floats of each level, and the few operations kernels need of it.

#include <cstring>

#include "tensor/simd_level.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace hybrid::internal {
namespace {

template <SimdLevel L>
struct SimdFloat;

/// One SSE register; on other machines the compiler lowers it to what they have. Never fused.
template <>
struct SimdFloat<SimdLevel::scalar> {
  using Vector = float __attribute__((vector_size(16)));
  static Vector load(const float* p) {
    Vector v;
    std::memcpy(&v, p, sizeof(v));
    return v;
  }
  static void store(float* p, Vector v) { std::memcpy(p, &v, sizeof(v)); }
  static Vector broadcast(float x) { return Vector{x, x, x, x}; }
  static Vector multiply_add(Vector a, Vector b, Vector c) { return a * b + c; }
};

#if defined(__AVX2__)
template <>
struct SimdFloat<SimdLevel::avx2> {
  using Vector = __m256;
  static Vector load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, Vector v) { _mm256_storeu_ps(p, v); }
  static Vector broadcast(float x) { return _mm256_set1_ps(x); }
  static Vector multiply_add(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
};
#endif

#if defined(__AVX512F__)
template <>
struct SimdFloat<SimdLevel::avx512_vnni> {
  using Vector = __m512;
  static Vector load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Vector v) { _mm512_storeu_ps(p, v); }
  static Vector broadcast(float x) { return _mm512_set1_ps(x); }
  static Vector multiply_add(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
};
#endif

}  // namespace
}  // namespace hybrid::internal

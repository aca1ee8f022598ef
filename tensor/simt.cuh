#pragma once
// The CUDA that kernels are written in: real under nvcc, an emulation under a host compiler.
//
// A kernel's source is compiled twice. nvcc makes the device's code of it. The tests compile the
// same source as C++ (tests/simt, where simt_host.h comes from), run it thread by thread and
// compare what it computes with the ops of the CPU, so that its arithmetic, its barriers and its
// bounds are checked on machines without a GPU. What is CUDA's own is spelled as in CUDA
// (threadIdx,
// __syncthreads, __syncwarp, __shfl_xor_sync, __launch_bounds__ by way of HYBRID_KERNEL); what is
// PTX, or differs between the two, has a function in hybrid::cuda below:
//
//   HYBRID_KERNEL(n_threads) f(...)     a kernel of blocks of at most n_threads; a second number:
//                                       the blocks that an SM shall have room for
//   HYBRID_DEVICE                       a function that kernels call
//   HYBRID_SHARED(name, type)           a shared array or variable, 16-byte aligned, not
//   initialised HYBRID_DYNAMIC_SHARED(name)         the shared bytes that the launch asked for,
//   128-byte aligned launch(kernel, grid, block, shared_bytes, stream, arguments...)     0, or a
//   cudaError_t
//
// Kernels use no atomics and no warp-synchronous tricks: what one thread writes and another reads
// has a __syncthreads or a __syncwarp between it (shuffles do not order memory), and blocks of a
// launch do not communicate. The floor is sm_80 (cp.async, bf16 mma), the same path serves all
// later ones: mma.sync and cp.async exist on every one of them, wgmma on one only.

#include <cstddef>
#include <cstdint>

#include "base/half.h"
#include "tensor/cuda_stream.h"

#ifdef __CUDACC__

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

// One block an SM unless a kernel wants more. Without a number, ptxas aims at a higher occupancy of
// its own and spilled a few bytes here and there for it.
#define HYBRID_BOUNDS(n_threads, n_blocks, ...) __launch_bounds__(n_threads, n_blocks)
#define HYBRID_KERNEL(...) static __global__ void HYBRID_BOUNDS(__VA_ARGS__, 1)
#define HYBRID_DEVICE __device__ __forceinline__
#define HYBRID_SHARED(name, ...) __shared__ __align__(16) hybrid::cuda::Same<__VA_ARGS__> name
#define HYBRID_UNROLL _Pragma("unroll")
#define HYBRID_PRAGMA(...) _Pragma(#__VA_ARGS__)
#define HYBRID_UNROLL_BY(n) HYBRID_PRAGMA(unroll(n))
#define HYBRID_NO_UNROLL _Pragma("unroll 1")
#define HYBRID_DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]

namespace hybrid::cuda {

template <class T>
using Same = T;
using Grid = dim3;

template <class... Parameters, class... Arguments>
CudaStatus launch(void (*kernel)(Parameters...), Grid grid, Grid block, size_t shared_bytes,
                  CudaStream stream, Arguments&&... arguments) {
  if (shared_bytes > 48 * 1024) {
    const cudaError_t status = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                    cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                    static_cast<int>(shared_bytes));
    if (status != cudaSuccess) return status;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

HYBRID_DEVICE float half_to_float(f16_t h) { return __half2float(__ushort_as_half(h)); }
HYBRID_DEVICE f16_t float_to_half(float x) { return __half_as_ushort(__float2half_rn(x)); }
HYBRID_DEVICE bf16_t float_to_bf16(float x) { return __bfloat16_as_ushort(__float2bfloat16_rn(x)); }
HYBRID_DEVICE float bits_to_float(uint32_t bits) { return __uint_as_float(bits); }
HYBRID_DEVICE uint32_t float_to_bits(float x) { return __float_as_uint(x); }

/// Two floats rounded to a pair, the first one low.
HYBRID_DEVICE uint32_t pack_bf16(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
HYBRID_DEVICE uint32_t pack_half(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

/// Byte i of the result is byte `selector >> 4 i & 7` of the eight bytes b:a.
HYBRID_DEVICE uint32_t byte_perm(uint32_t a, uint32_t b, uint32_t selector) {
  return __byte_perm(a, b, selector);
}

/// c + the products of four bytes each: unsigned (or signed) ones of a, signed ones of b.
HYBRID_DEVICE int32_t dot_unsigned(uint32_t a, uint32_t b, int32_t c) {
  int32_t d;
  asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
HYBRID_DEVICE int32_t dot_signed(uint32_t a, uint32_t b, int32_t c) {
  return __dp4a(static_cast<int32_t>(a), static_cast<int32_t>(b), c);
}

/// 2^x within 2 ulp of a float; 0 for -infinity.
HYBRID_DEVICE float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// A load of what no launch writes. It stays in L1 as any other: kernels read the same dword again
/// for its other nibble.
HYBRID_DEVICE uint32_t load_weight(const uint32_t* p) { return __ldg(p); }

/// A hint: the 128 bytes around p will be read soon.
HYBRID_DEVICE void prefetch_l2(const void* p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }

HYBRID_DEVICE uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

/// 16 bytes into shared memory, asynchronously; zeros where !is_valid (`from` is a valid address
/// all the same). In groups closed by commit_copies; wait_copies<n> waits for all but the n
/// youngest groups of this thread, a barrier makes them visible to the others.
HYBRID_DEVICE void copy_async_16(void* to, const void* from, bool is_valid) {
  const int n = is_valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
               "r"(n)
               : "memory");
}
HYBRID_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kLeft>
HYBRID_DEVICE void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

// Fragments of 16 x 16 (a), 16 x 8 (b) and 16 x 8 (d, floats), as PTX defines them:
//   lane = 4 g + t     a[0] = A[g][2t..], a[1] = A[g+8][2t..], a[2] = A[g][2t+8..], a[3] = both
//   b[0] = B[2t..][g], b[1] = B[2t+8..][g]     d[0..1] = D[g][2t..], d[2..3] = D[g+8][2t..]
HYBRID_DEVICE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
HYBRID_DEVICE void mma_half(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// 8 x 8 matrices of 16-bit words; lane 8 m + i names row i of matrix m (16 bytes, aligned).
HYBRID_DEVICE void ldmatrix(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
HYBRID_DEVICE void ldmatrix_transposed(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

}  // namespace hybrid::cuda

#else

#include <simt_host.h>

#endif

namespace hybrid::cuda {

inline constexpr uint32_t kAllLanes = 0xffffffffu;

template <class T>
HYBRID_DEVICE T smaller(T a, T b) {
  return a < b ? a : b;
}
template <class T>
HYBRID_DEVICE T larger(T a, T b) {
  return a < b ? b : a;
}

HYBRID_DEVICE float silu(float x) { return x / (1.0f + expf(-x)); }

/// The same sum in all lanes, the same bits whatever they hold: a fixed tree.
template <class T>
HYBRID_DEVICE T warp_sum(T x) {
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}
HYBRID_DEVICE float warp_max(float x) {
  for (int step = 16; step > 0; step /= 2) x = larger(x, __shfl_xor_sync(kAllLanes, x, step));
  return x;
}

}  // namespace hybrid::cuda

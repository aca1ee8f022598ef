#include "tests/cuda_gpu/bench/bench_kernels.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

namespace hybrid::gpu {
namespace {

__device__ uint64_t now_ns() {
  uint64_t ns;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
  return ns;
}

__global__ void nothing_kernel() {}

__global__ void hold_kernel(uint64_t ns) {
  const uint64_t begin = now_ns();
  while (now_ns() - begin < ns) {
  }
}

__global__ void read_kernel(const uint4* from, uint64_t n, uint32_t* to) {
  uint32_t sum = 0;
  const uint64_t step = uint64_t{gridDim.x} * blockDim.x;
#pragma unroll 4
  for (uint64_t i = blockIdx.x * uint64_t{blockDim.x} + threadIdx.x; i < n; i += step) {
    const uint4 v = from[i];
    sum ^= v.x ^ v.y ^ v.z ^ v.w;
  }
  // Hardly ever true, which the compiler does not know.
  if (sum == 0x9e3779b9) *to = sum;
}

__global__ void random_bf16_kernel(bf16_t* to, uint64_t n) {
  const uint64_t step = uint64_t{gridDim.x} * blockDim.x;
  for (uint64_t i = blockIdx.x * uint64_t{blockDim.x} + threadIdx.x; i < n; i += step) {
    const auto bits = static_cast<uint32_t>((i + 1) * 0x9e3779b97f4a7c15 >> 32);
    to[i] = __bfloat16_as_ushort(__float2bfloat16_rn(static_cast<float>(bits) * 0x1p-31f - 1));
  }
}

__global__ void answers_kernel(const uint32_t* asked, uint32_t* answered, uint32_t n,
                               uint64_t limit_ns) {
  for (uint32_t i = 1; i <= n; ++i) {
    const uint64_t begin = now_ns();
    uint32_t value = 0;
    while (value < i) {
      asm volatile("ld.acquire.sys.u32 %0, [%1];" : "=r"(value) : "l"(asked) : "memory");
      if (now_ns() - begin > limit_ns) return;
    }
    asm volatile("st.release.sys.u32 [%0], %1;" ::"l"(answered), "r"(i) : "memory");
  }
}

}  // namespace

CudaStatus launch_nothing(CudaStream stream) {
  nothing_kernel<<<1, 1, 0, stream>>>();
  return cudaGetLastError();
}
CudaStatus launch_hold(uint64_t ns, CudaStream stream) {
  hold_kernel<<<1, 1, 0, stream>>>(ns);
  return cudaGetLastError();
}
CudaStatus launch_read(const void* from, uint64_t n_bytes, uint32_t n_blocks, uint32_t* to,
                       CudaStream stream) {
  read_kernel<<<n_blocks, 256, 0, stream>>>(static_cast<const uint4*>(from), n_bytes / 16, to);
  return cudaGetLastError();
}
CudaStatus launch_random_bf16(bf16_t* to, uint64_t n, CudaStream stream) {
  random_bf16_kernel<<<1024, 256, 0, stream>>>(to, n);
  return cudaGetLastError();
}
CudaStatus launch_answers(const uint32_t* asked, uint32_t* answered, uint32_t n, uint64_t limit_ns,
                          CudaStream stream) {
  answers_kernel<<<1, 1, 0, stream>>>(asked, answered, n, limit_ns);
  return cudaGetLastError();
}

}  // namespace hybrid::gpu

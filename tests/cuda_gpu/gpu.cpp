#include "tests/cuda_gpu/gpu.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/units.h"

namespace hybrid::gpu {

std::string why_none() {
  int n = 0;
  const cudaError_t status = cudaGetDeviceCount(&n);
  if (status != cudaSuccess) {
    return fmt::format("{} ({})", cudaGetErrorString(status), cudaGetErrorName(status));
  }
  return n > 0 ? "" : "the driver finds no GPU";
}

std::string title() {
  cudaDeviceProp properties{};
  const cudaError_t status = cudaGetDeviceProperties(&properties, 0);
  if (status != cudaSuccess) return "CUDA0";
  return fmt::format("CUDA0 ({})", printable(properties.name));
}

void check(int status, std::string_view call, uint64_t n_bytes) {
  if (status == cudaSuccess) return;
  const auto error = static_cast<cudaError_t>(status);
  throw Error(fmt::format("{}: {}{} failed: {} ({})", title(), call,
                          n_bytes == 0 ? "" : " of " + format_bytes(n_bytes),
                          cudaGetErrorString(error), cudaGetErrorName(error)));
}

CudaStream stream() {
  static const CudaStream made = [] {
    cudaStream_t s = nullptr;
    check(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    return s;
  }();
  return made;
}

void synchronize() {
  check(cudaStreamSynchronize(stream()), "cudaStreamSynchronize");
  check(cudaGetLastError(), "a launch");
}

Memory::Memory(uint64_t n_bytes) : n_bytes_(n_bytes) {
  if (n_bytes > 0) check(cudaMalloc(&data_, n_bytes), "cudaMalloc", n_bytes);
}

// What fails here has failed before, and been told.
Memory::~Memory() { static_cast<void>(cudaFree(data_)); }

void Memory::fill(int byte) {
  if (n_bytes_ == 0) return;
  check(cudaMemsetAsync(data_, byte, n_bytes_, stream()), "cudaMemsetAsync", n_bytes_);
}

void Memory::upload(const void* from, uint64_t n_bytes) {
  HYBRID_CHECK(n_bytes <= n_bytes_);
  if (n_bytes == 0) return;
  check(cudaMemcpyAsync(data_, from, n_bytes, cudaMemcpyHostToDevice, stream()),
        "a copy to the device", n_bytes);
  synchronize();
}

void Memory::download(void* to, uint64_t n_bytes) const {
  HYBRID_CHECK(n_bytes <= n_bytes_);
  synchronize();
  if (n_bytes == 0) return;
  check(cudaMemcpyAsync(to, data_, n_bytes, cudaMemcpyDeviceToHost, stream()), "a copy to the host",
        n_bytes);
  synchronize();
}

}  // namespace hybrid::gpu

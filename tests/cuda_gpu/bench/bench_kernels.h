#pragma once
// Kernels that benchmarks need beside those that they measure. Each launch returns a cudaError_t.

#include <cstdint>

#include "base/half.h"
#include "tensor/cuda_stream.h"

namespace hybrid::gpu {

CudaStatus launch_nothing(CudaStream stream);

/// Keeps the stream busy for `ns`, so that what is queued behind it does not wait for the host.
CudaStatus launch_hold(uint64_t ns, CudaStream stream);

/// Reads n_bytes (a multiple of 16) by n_blocks blocks; a word that depends on all goes to *to.
CudaStatus launch_read(const void* from, uint64_t n_bytes, uint32_t n_blocks, uint32_t* to,
                       CudaStream stream);

/// Numbers between -1 and 1.
CudaStatus launch_random_bf16(bf16_t* to, uint64_t n, CudaStream stream);

/// One thread that waits n times for *asked to become 1, 2, ... and answers with the same number in
/// *answered. Both in the host's memory. Gives up where nothing is asked for limit_ns.
CudaStatus launch_answers(const uint32_t* asked, uint32_t* answered, uint32_t n, uint64_t limit_ns,
                          CudaStream stream);

}  // namespace hybrid::gpu

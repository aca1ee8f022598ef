#pragma once
// What launch functions take and return, for callers that do not see CUDA's headers.

struct CUstream_st;

namespace hybrid {

using CudaStream = CUstream_st*;  // cudaStream_t
using CudaStatus = int;           // cudaError_t; 0: the kernel was launched

}  // namespace hybrid

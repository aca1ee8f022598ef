#pragma once
// What models call of CUDA: the runtime's functions and those that launch kernels,
// and cuBLAS's, which it opens where it is asked for.

#include <string>

#include "attention/cuda_ops.h"
#include "experts/cuda_ops.h"
#include "tensor/cuda_api.h"
#include "tensor/cuda_blas.h"
#include "tensor/cuda_ops.h"

namespace hybrid {

struct CudaTables {
  const CudaApi& api;
  const TensorCudaOps& tensor;
  const ExpertsCudaOps& experts;
  const AttentionCudaOps& attention;
  const BlasCudaOps& blas;
};

/// Those of the plugin, which is opened at the first call and stays open. Null where there is none
/// that this program can use; why is then in `reason`.
const CudaTables* cuda_tables(std::string& reason);

/// What cuda_tables() gives from now on; null: the plugin's. For tests, which play GPUs.
void set_cuda_tables(const CudaTables* tables);

}  // namespace hybrid

#pragma once
// What models call of CUDA: the runtime's functions and those that launch kernels.

#include <string>

#include "attention/cuda_ops.h"
#include "experts/cuda_ops.h"
#include "tensor/cuda_api.h"
#include "tensor/cuda_ops.h"

namespace hybrid {

struct CudaTables {
  const CudaApi& api;
  const TensorCudaOps& tensor;
  const ExpertsCudaOps& experts;
  const AttentionCudaOps& attention;
};

/// Those of the plugin, which is opened at the first call and stays open. Null where there is none
/// that this program can use; why is then in `reason`.
const CudaTables* cuda_tables(std::string& reason);

/// What cuda_tables() gives from now on; null: the plugin's. For tests, which play GPUs.
void set_cuda_tables(const CudaTables* tables);

}  // namespace hybrid

#include "attention/mla_prefill_cuda.h"

#include "attention/mla_prefill_cuda.cuh"

namespace hybrid {

using namespace cuda;

CudaStatus mla_prefill_cuda(const MlaPrefillArgs& args, CudaStream stream) {
  const Grid grid((args.n_tokens + kPrefillQueries - 1) / kPrefillQueries, args.n_heads);
  return launch(mla_prefill_kernel, grid, Grid(kPrefillThreads), 0, stream, args);
}

}  // namespace hybrid

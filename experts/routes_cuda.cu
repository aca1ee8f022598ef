#include "experts/routes_cuda.h"

#include "experts/routes_cuda.cuh"

namespace hybrid {

using namespace cuda;

CudaStatus sort_by_expert_cuda(const int32_t* ids, const int32_t* local, uint32_t n_slots,
                               uint32_t n_used, uint32_t n_matrices, const DeviceRoutes& routes,
                               CudaStream stream) {
  if (n_matrices > kMaxMatrices) return 1;
  const CudaStatus status =
      launch(sort_by_expert_kernel, Grid(n_matrices + 1), Grid(kRoutesThreads), 0, stream, ids,
             local, n_slots, n_used, n_matrices, routes);
  if (status != 0) return status;
  return launch(expert_tiles_kernel, Grid(1), Grid((n_matrices + 31) / 32 * 32), 0, stream,
                n_matrices, routes);
}

}  // namespace hybrid

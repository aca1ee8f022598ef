#pragma once
// sort_by_expert() (routes.h) on a device, for the experts that live there, and the tiles of
// outputs that a product with all of them takes.

#include "tensor/panel_gemm_cuda.h"

namespace hybrid {

/// Arrays in the device's memory. A slot is token * n_used + k; its matrix is local[ids[slot]], or
/// ids[slot] without `local`; below 0 the expert lives elsewhere.
struct DeviceRoutes {
  uint32_t* tokens = nullptr;   // [n_slots]: of the slots sorted by matrix, by slot within one
  int32_t* places = nullptr;    // [n_slots]: where a slot stands in that order; -1: elsewhere
  uint32_t* offsets = nullptr;  // [n_matrices + 1]
  GemmTile* tiles = nullptr;    // [max_tiles()]
  uint32_t* n_tiles = nullptr;  // [1]

  static uint32_t max_tiles(uint32_t n_slots, uint32_t n_matrices) {
    return n_slots / kTileOutputs + n_matrices;
  }
};

/// At most 1024 matrices. Reads the ids once a matrix: 2 * n_matrices * n_slots * 4 bytes from L2.
CudaStatus sort_by_expert_cuda(const int32_t* ids, const int32_t* local, uint32_t n_slots,
                               uint32_t n_used, uint32_t n_matrices, const DeviceRoutes& routes,
                               CudaStream stream);

}  // namespace hybrid

#pragma once
// Products of packed weights with many tokens on the matrix units (AMX), both as 16-bit fixed point
// numbers: bytes 256 * high + low, each signed. Three of the four products of bytes are taken, high
// * high and the two mixed ones; what low * low would add is 1e-4 of a result. Sums are integers,
// exact, for each 2048 columns. For Precision::exact; needs the amx level.

#include <cstdint>

#include "tensor/int16_tiles.h"
#include "tensor/panel.h"

namespace hybrid {

struct Int16Product {
  static constexpr uint64_t kMaxTiles = 3;

  PanelMatrix w;
  const float* row_scales = nullptr;  // [n_panels * 16], from row_scales()
  Int16Rows x;                        // at most kMaxTiles tiles
  float* y = nullptr;                 // y[t * y_stride + r] for the first token and row of w
  uint64_t y_stride = 0;
};

struct Int16Kernels {
  /// A power of two for each row of the panels, which brings its largest weight close below 2^15.
  void (*row_scales)(const PanelMatrix& w, float* scales);
  /// y = sums of all panels of w.
  void (*product)(const Int16Product& args);
};

/// Null for a type of another family, and for those that have none.
Int16Kernels int16_kernels_legacy(DType type);
Int16Kernels int16_kernels_k(DType type);

/// Those of a type; null for codebook types, BF16 and F32.
Int16Kernels int16_kernels(DType type);

}  // namespace hybrid

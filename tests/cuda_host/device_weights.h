#pragma once
// Random matrices in panels in "device" memory, with the values they hold.

#include <memory>

#include "tensor/activation_blocks_cuda.h"
#include "tensor/device_panels.h"
#include "tests/cuda_host/schedules.h"
#include "tests/support/panels.h"

namespace hybrid::test {

inline const GridTables* device_grids() {
  static DeviceBuffer<GridTables>* buffer = [] {
    auto tables = std::make_unique<GridTables>();
    fill_grid_tables(*tables);
    auto* b = new DeviceBuffer<GridTables>(1);
    b->upload(tables.get());
    return b;
  }();
  return buffer->data();
}

class DeviceWeights {
 public:
  /// A stack of n_matrices.
  DeviceWeights(DType type, uint32_t n_cols, uint32_t n_rows, uint32_t n_matrices, uint32_t seed) {
    std::vector<std::byte> panels;
    for (uint32_t m = 0; m < n_matrices; ++m) {
      const PackedMatrix matrix(type, n_cols, n_rows, seed + m);
      panels.insert(panels.end(), matrix.panels.begin(), matrix.panels.end());
      values_.insert(values_.end(), matrix.values.begin(), matrix.values.end());
    }
    panels_ = std::make_unique<DeviceBuffer<std::byte>>(panels);
    view_ = {type, n_cols, n_rows, panels_->data(), device_grids()};
  }

  const DevicePanels& view() const { return view_; }
  const float* row(uint64_t matrix, uint64_t r) const {
    return &values_[(matrix * view_.n_rows + r) * view_.n_cols];
  }
  template <class T>
  double product(uint64_t matrix, uint64_t r, const T* x) const {
    double sum = 0;
    for (uint64_t c = 0; c < view_.n_cols; ++c) sum += double{row(matrix, r)[c]} * x[c];
    return sum;
  }

 private:
  std::vector<float> values_;
  std::unique_ptr<DeviceBuffer<std::byte>> panels_;
  DevicePanels view_;
};

/// Rounded to what kernels multiply with.
inline std::unique_ptr<DeviceBuffer<ActivationBlock>> quantized(const std::vector<float>& x,
                                                                uint32_t n_cols) {
  const auto n_rows = static_cast<uint32_t>(x.size() / n_cols);
  DeviceBuffer<float> from(x);
  auto to = std::make_unique<DeviceBuffer<ActivationBlock>>(n_rows * activation_row_blocks(n_cols));
  quantize_rows_cuda({from.data(), n_cols}, n_cols, n_rows, to->data(), stream());
  return to;
}

inline std::vector<DType> every_dtype() {
  std::vector<DType> types;
  for (const DTypeInfo& info : all_dtypes()) types.push_back(info.type);
  return types;
}

}  // namespace hybrid::test

#include "tensor/rms_norm.h"

#include <cmath>

#include "tensor/row_ops.h"

namespace hybrid {

void rms_norm(const float* x, std::span<const float> weight, float epsilon, float* y) {
  const RowOps ops = row_ops();
  const double mean = ops.sum_of_squares(x, weight.size()) / static_cast<double>(weight.size());
  const auto scale = static_cast<float>(1.0 / std::sqrt(mean + static_cast<double>(epsilon)));
  ops.scale_by(x, scale, weight.data(), y, weight.size());
}

}  // namespace hybrid

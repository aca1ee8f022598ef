#include "tensor/rms_norm.h"

#include <cmath>

namespace hybrid {

void rms_norm(const float* x, std::span<const float> weight, float epsilon, float* y) {
  double sum = 0;
  for (size_t i = 0; i < weight.size(); ++i) sum += static_cast<double>(x[i]) * x[i];
  const double mean = sum / static_cast<double>(weight.size());
  const auto scale = static_cast<float>(1.0 / std::sqrt(mean + static_cast<double>(epsilon)));
  for (size_t i = 0; i < weight.size(); ++i) y[i] = x[i] * scale * weight[i];
}

}  // namespace hybrid

// Rows of panels as floats, of every type, against the CPU's decoding.

#include "tensor/panel_rows_cuda.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "tests/cuda_host/device_weights.h"

using namespace hybrid;
using namespace hybrid::test;

TEST_CASE("cuda: rows of panels of every type") {
  const std::vector<int32_t> ids{0, 20, 15, 16, 20};
  for (const DType type : every_dtype()) {
    CAPTURE(name_of(type));
    const uint32_t n_cols = is_float(type) ? 777 : 1280;
    const DeviceWeights w(type, n_cols, 21, 1, 3);
    const auto found = same_under_schedules([&] {
      DeviceBuffer<int32_t> device_ids(ids);
      DeviceBuffer<float> y(ids.size() * n_cols);
      REQUIRE(panel_rows_cuda(w.view(), device_ids.data(), 5, {y.data(), n_cols}, stream()) == 0);
      return written(y);
    });
    for (size_t t = 0; t < ids.size(); ++t) {
      const float* row = w.row(0, static_cast<uint64_t>(ids[t]));
      // scale * q - minimum is rounded in another order than the formats have it.
      const float most = std::abs(*std::max_element(
          row, row + n_cols, [](float a, float b) { return std::abs(a) < std::abs(b); }));
      for (uint32_t c = 0; c < n_cols; ++c) {
        CHECK(std::abs(found[t * n_cols + c] - row[c]) <= 1e-6f * most);
      }
    }
  }
}

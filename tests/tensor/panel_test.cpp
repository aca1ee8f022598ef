#include "tensor/panel.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "base/error.h"
#include "tensor/dequantize.h"
#include "tensor/panel_exponent.h"
#include "tests/support/aligned.h"
#include "tests/support/random_weights.h"

using namespace hybrid;
using test::AlignedBytes;
using test::random_weights;

namespace {}  // namespace

TEST_CASE("packing and unpacking gives the same bytes for every type and shape") {
  for (const DTypeInfo& info : all_dtypes()) {
    CAPTURE(info.name);
    for (const uint64_t n_blocks : {1, 2, 3, 4, 5, 31, 32, 33}) {
      CAPTURE(n_blocks);
      const uint64_t n_cols = n_blocks * info.block_size;
      for (const uint64_t n_rows : {1, 7, 16}) {
        CAPTURE(n_rows);
        const std::vector<std::byte> bytes = random_weights(info.type, n_cols * n_rows, 1);
        AlignedBytes panel(panel_bytes(info.type, n_cols), std::byte{0xee});
        pack_panel(info.type, bytes.data(), n_rows, n_cols, panel.data());
        std::vector<std::byte> back(bytes.size());
        unpack_panel(info.type, panel.data(), n_rows, n_cols, back.data());
        CHECK(bytes == back);
      }
    }
  }
}

TEST_CASE("a unit holds whole blocks, dword by dword, and nothing else") {
  for (const DTypeInfo& info : all_dtypes()) {
    CAPTURE(info.name);
    const PanelFormat format = panel_format(info.type);
    CHECK(format.n_cols == format.n_blocks * info.block_size);
    CHECK(format.row_bytes == format.n_blocks * info.block_bytes);
    CHECK(format.row_bytes % 4 == 0);
    CHECK(format.unit_bytes == 16 * format.row_bytes);
    CHECK((256 % format.n_cols == 0 || format.n_cols == 512));
    CHECK(panel_bytes(info.type, format.n_cols) == format.unit_bytes);
    CHECK(panel_bytes(info.type, format.n_cols + info.block_size) == 2 * format.unit_bytes);
  }
}

TEST_CASE("rows that are missing in the last panel are zeros") {
  for (const DTypeInfo& info : all_dtypes()) {
    CAPTURE(info.name);
    const uint64_t n_cols = 3 * std::max<uint64_t>(32, info.block_size);
    const std::vector<std::byte> bytes = random_weights(info.type, n_cols * 5, 1);
    AlignedBytes panel(panel_bytes(info.type, n_cols), std::byte{0xee});
    pack_panel(info.type, bytes.data(), 5, n_cols, panel.data());
    std::vector<std::byte> all(16 * row_bytes(info.type, n_cols));
    unpack_panel(info.type, panel.data(), 16, n_cols, all.data());
    std::vector<float> values(11 * n_cols);
    dequantize(info.type, all.data() + 5 * row_bytes(info.type, n_cols), values.data(),
               values.size());
    for (const float value : values) REQUIRE(std::abs(value) < 1e-36f);  // MXFP4: 2^-128 * 0
  }
}

TEST_CASE("the exponent brings every weight below 2^15, and the largest not far below") {
  for (const DTypeInfo& info : all_dtypes()) {
    if (info.type == DType::f32 || info.type == DType::bf16) continue;
    CAPTURE(info.name);
    const uint64_t n_cols = 4 * std::max<uint64_t>(32, info.block_size);
    const std::vector<std::byte> bytes = random_weights(info.type, n_cols * 16, 3);
    AlignedBytes panel(panel_bytes(info.type, n_cols));
    const int exponent = pack_panel(info.type, bytes.data(), 16, n_cols, panel.data());
    std::vector<float> values(16 * n_cols);
    dequantize(info.type, bytes.data(), values.data(), values.size());
    float largest = 0;
    for (const float value : values) largest = std::max(largest, std::abs(value));
    CHECK(std::ldexp(largest, exponent) < 0x1p15f);
    CHECK(std::ldexp(largest, exponent) > 0x1p10f);
  }
}

TEST_CASE("scales that are no finite numbers do not count for the exponent") {
  constexpr uint16_t kOne = 0x3c00, kInfinity = 0x7c00, kNan = 0x7e01, kMinusTwo = 0xc000;
  const auto exponent = [](DType type, const std::vector<uint16_t>& scales) {
    const DTypeInfo& info = info_of(type);
    std::vector<std::byte> blocks(scales.size() * info.block_bytes);
    for (size_t i = 0; i < scales.size(); ++i) {
      std::memcpy(blocks.data() + i * info.block_bytes, &scales[i], sizeof(uint16_t));
    }
    return int{panel_exponent(type, blocks.data(), scales.size())};
  };
  for (const DType type : {DType::f16, DType::q8_0, DType::q4_k}) {
    const int one = exponent(type, {kOne, 0, 0});
    CAPTURE(name_of(type));
    CHECK(exponent(type, {kOne, kInfinity, kNan}) == one);
    CHECK(exponent(type, {kOne, kInfinity | 0x8000, kOne}) == one);
    CHECK(exponent(type, {kOne, kMinusTwo, kOne}) == one - 1);
    CHECK(exponent(type, {0, 0, kNan}) == 0);
  }
  CHECK(exponent(DType::f16, {kOne}) == 14);
  CHECK(exponent(DType::q8_0, {kOne}) == 7);  // 128 is below 2^8
  CHECK(exponent(DType::f16, {1}) == 15);     // 2^15 is the largest half float of the kind
}

TEST_CASE("a panel has one to sixteen rows") {
  AlignedBytes panel(panel_bytes(DType::q8_0, 64));
  const std::vector<std::byte> bytes(17 * 68);
  CHECK_THROWS_AS(pack_panel(DType::q8_0, bytes.data(), 0, 64, panel.data()), Error);
  CHECK_THROWS_AS(pack_panel(DType::q8_0, bytes.data(), 17, 64, panel.data()), Error);
}

#pragma once
// Body of the kernels of panel_float.h at the wide levels.

#include <algorithm>

#include "tensor/lanes-inl.h"
#include "tensor/panel_float.h"

namespace hybrid::internal {
namespace {

template <SimdLevel L, DType type>
typename Lanes<L>::Float word(typename Lanes<L>::Int x, int k) {
  using V = Lanes<L>;
  if constexpr (type == DType::f16) {
    return V::half_to_float(k ? V::shift_right(x, 16) : x);
  } else {
    return V::as_float(k ? V::bit_and(x, V::set(0xffff0000)) : V::shift_left(x, 16));
  }
}

/// One panel with kTokens tokens from `token` on. Each four columns lie in the order 0 2 1 3.
template <SimdLevel L, DType type, int kTokens>
void panel_times_tokens(const FloatProduct& a, uint64_t panel, uint64_t token) {
  using V = Lanes<L>;
  const std::byte* bytes = a.weight.panel(panel);
  const float* x = a.x + token * a.x_stride;
  typename V::Float sums[kTokens];
  for (auto& sum : sums) sum = V::set_float(0);
  const uint64_t n_cols = a.weight.n_cols;
  for (uint64_t c = 0; c < n_cols; c += 4, bytes += 2 * kVectorBytes) {
    __builtin_prefetch(bytes + 2048);
    __builtin_prefetch(bytes + 2048 + kVectorBytes);
    const auto even = V::load(bytes), odd = V::load(bytes + kVectorBytes);
    const typename V::Float w[4] = {word<L, type>(even, 0), word<L, type>(odd, 0),
                                    word<L, type>(even, 1), word<L, type>(odd, 1)};
    const uint64_t n = std::min<uint64_t>(4, n_cols - c);
#pragma GCC unroll 4
    for (uint64_t i = 0; i < 4; ++i) {
      if (i >= n) break;
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
        sums[t] = V::multiply_add(w[i], V::set_float(x[t * a.x_stride + c + i]), sums[t]);
      }
    }
  }
  const uint64_t row = panel * kPanelRows;
  for (int t = 0; t < kTokens; ++t) {
    float lanes[kPanelRows];
    V::store_float(lanes, sums[t]);
    std::copy_n(lanes, std::min<uint64_t>(kPanelRows, a.weight.n_rows - row),
                a.y + (token + t) * a.y_stride + row);
  }
}

template <SimdLevel L, DType type>
void float_product(const FloatProduct& args, uint64_t panel_begin, uint64_t panel_end) {
  constexpr int kTokens = L == SimdLevel::avx2 ? 2 : 8;
  for (uint64_t p = panel_begin; p < panel_end; ++p) {
    uint64_t t = 0;
    for (; t + kTokens <= args.n_tokens; t += kTokens) {
      panel_times_tokens<L, type, kTokens>(args, p, t);
    }
    for (; t < args.n_tokens; ++t) panel_times_tokens<L, type, 1>(args, p, t);
  }
}

template <SimdLevel L>
FloatProductFn float_product_of(DType type) {
  if (type == DType::f16) return float_product<L, DType::f16>;
  if (type == DType::bf16) return float_product<L, DType::bf16>;
  return nullptr;
}

}  // namespace
}  // namespace hybrid::internal

#pragma once
// Attention as textbooks have it, in double.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numeric>
#include <span>
#include <vector>

namespace hybrid::test {

/// One query: out, [value_dim], from the n_visible keys and values it sees. key(p) and value(p):
/// spans of float or double.
template <class Key, class Value>
void textbook_attention(std::span<const float> q, double scale, uint32_t n_visible, const Key& key,
                        const Value& value, std::span<double> out) {
  std::vector<double> p(n_visible);
  for (uint32_t k = 0; k < n_visible; ++k) {
    p[k] = scale * std::inner_product(q.begin(), q.end(), key(k).begin(), 0.0, std::plus<>(),
                                      [](double a, double b) { return a * b; });
  }
  const double max = *std::max_element(p.begin(), p.end());
  double sum = 0;
  for (double& x : p) sum += x = std::exp(x - max);
  std::fill(out.begin(), out.end(), 0.0);
  for (uint32_t k = 0; k < n_visible; ++k) {
    const auto v = value(k);
    for (size_t i = 0; i < out.size(); ++i) out[i] += p[k] / sum * v[i];
  }
}

}  // namespace hybrid::test

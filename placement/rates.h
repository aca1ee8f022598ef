#pragma once
// Rates that were measured with a processor's own kernels, and the times that follow from them.
//
// A rate is that of one product, at so many tokens for each matrix: a matrix is read from memory
// whatever their number, so the time of an element is a + b * tokens, and between two numbers that
// were measured it lies on the line between them.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "placement/attention_work.h"
#include "placement/json_node.h"
#include "tensor/dtype.h"

namespace hybrid {

enum class RateOp {
  product,    // a matrix with all tokens: attention's projections, the output, the router
  experts,    // gated nets: gate, up and down of an expert (dense and shared: of one)
  attention,  // queries with cached rows, and the way there and back from latents
  layer,      // what a layer does to each element of hidden states: norms, rotation, routing, sums
};
std::string_view name_of(RateOp op);

struct MeasuredRate {
  RateOp op = RateOp::product;
  DType type = DType::f32;    // of the weights; of attention: of cached rows; of a layer: F32
  uint32_t n_tokens = 1;      // for each matrix; of attention: queries
  uint32_t n_past = 0;        // of attention: cached positions before the queries
  double flop_per_s = 0;      // a multiplication and an addition are two; so is a layer's element
  bool packed = true;         // weights were packed at load; else on the spot (-rtr 0)
  std::string measured = {};  // when, "2026-11-21T19:50Z"; "" where a machine file says it

  bool operator==(const MeasuredRate&) const = default;
};

/// Looks times up. Everything is nothing where the table has no rate of the kind.
class RateTable {
 public:
  RateTable() = default;
  explicit RateTable(std::vector<MeasuredRate> rates);

  bool empty() const { return rates_.empty(); }
  const std::vector<MeasuredRate>& rates() const { return rates_; }

  /// Whether there are rates of exactly this kind.
  bool has(RateOp op, DType type, bool packed) const;

  /// Seconds of an element of a matrix that meets n_tokens (a mean, at least 1). Where a type was
  /// not measured those of the slowest type count, where its layout was not those of the other.
  std::optional<double> element_seconds(RateOp op, DType type, bool packed, double n_tokens) const;

  /// Seconds of a layer's attention of n_tokens behind n_past positions.
  std::optional<double> attention_seconds(const AttentionWork& work, DType cache_type,
                                          uint64_t n_past, uint64_t n_tokens) const;

 private:
  std::vector<MeasuredRate> rates_;  // ascending by n_tokens, then n_past
};

/// "Q4_K", as `inspect` names a type. Throws Error with the place for what is none.
DType read_type(const JsonNode& node);

/// The elements of a file's "rates". Throws Error with the place for what is none:
///   {"op": "experts", "type": "Q4_K", "tokens": 32, "gflops": 640.5}
///   {"op": "attention", "type": "F16", "tokens": 1, "past": 4096, "gflops": 88.1}
/// and, where they are not the usual, "packed": false, "measured": "2026-11-21T19:50Z".
std::vector<MeasuredRate> read_rates(const JsonNode& array);
/// The inverse.
nlohmann::ordered_json rates_json(const std::vector<MeasuredRate>& rates);

}  // namespace hybrid

#include "placement/rates.h"

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <span>

#include "base/error.h"
#include "base/text.h"

namespace hybrid {
namespace {

constexpr std::string_view kOpNames[] = {"product", "experts", "attention", "layer"};
constexpr RateOp kOps[] = {RateOp::product, RateOp::experts, RateOp::attention, RateOp::layer};
constexpr double kGiga = 1e9;
constexpr double kMaxGflops = 1e9;
constexpr uint64_t kMaxTokens = 1 << 30;

/// y at x on the line through two points.
double on_line(double x0, double y0, double x1, double y1, double x) {
  return x1 == x0 ? y0 : y0 + (y1 - y0) * (x - x0) / (x1 - x0);
}

/// Times of an element, by tokens; rates of one kind, ascending. A single token has kernels of its
/// own: from it alone nothing follows for more, nor from more for it.
std::optional<double> interpolated(std::span<const MeasuredRate* const> rates, double n_tokens) {
  const auto seconds = [&](const MeasuredRate& r) { return 2.0 * r.n_tokens / r.flop_per_s; };
  const MeasuredRate &first = *rates.front(), &last = *rates.back();
  if (n_tokens > 1 ? last.n_tokens == 1 : first.n_tokens > 1) return std::nullopt;
  if (n_tokens >= last.n_tokens) return 2 * n_tokens / last.flop_per_s;
  if (n_tokens <= first.n_tokens) return seconds(first);
  size_t i = 1;
  while (rates[i]->n_tokens < n_tokens) ++i;
  const MeasuredRate &below = *rates[i - 1], &above = *rates[i];
  return on_line(below.n_tokens, seconds(below), above.n_tokens, seconds(above), n_tokens);
}

/// To five digits, which is more than a measurement knows.
double rounded(double x) { return std::strtod(fmt::format("{:.5g}", x).c_str(), nullptr); }

RateOp read_op(const JsonNode& node) {
  for (const RateOp op : kOps) {
    if (node.string() == name_of(op)) return op;
  }
  node.fail_expected(join({kOpNames, kOpNames + std::size(kOpNames)}, ", "));
}

MeasuredRate read_rate(const JsonNode& node) {
  constexpr std::string_view kKeys[] = {"op",     "type",   "tokens",  "past",
                                        "gflops", "packed", "measured"};
  node.expect_object(kKeys);
  MeasuredRate rate;
  rate.op = read_op(node.member("op"));
  rate.type = read_type(node.member("type"));
  rate.n_tokens = static_cast<uint32_t>(node.member("tokens").whole_number(1, kMaxTokens));
  if (const JsonNode* past = node.find("past")) {
    if (rate.op != RateOp::attention) past->fail_expected("it at \"attention\" alone");
    rate.n_past = static_cast<uint32_t>(past->whole_number(0, kMaxTokens));
  }
  rate.flop_per_s = node.member("gflops").positive_number(kMaxGflops) * kGiga;
  if (const JsonNode* packed = node.find("packed")) {
    if (!packed->value().is_boolean()) packed->fail_expected("true or false");
    rate.packed = packed->value().get<bool>();
  }
  if (const JsonNode* measured = node.find("measured")) rate.measured = measured->string();
  return rate;
}

}  // namespace

std::string_view name_of(RateOp op) { return kOpNames[static_cast<size_t>(op)]; }

RateTable::RateTable(std::vector<MeasuredRate> rates) : rates_(std::move(rates)) {
  for (const MeasuredRate& r : rates_) HYBRID_CHECK(r.flop_per_s > 0 && r.n_tokens > 0);
  std::stable_sort(rates_.begin(), rates_.end(), [](const MeasuredRate& a, const MeasuredRate& b) {
    return a.n_tokens != b.n_tokens ? a.n_tokens < b.n_tokens : a.n_past < b.n_past;
  });
}

bool RateTable::has(RateOp op, DType type, bool packed) const {
  return std::any_of(rates_.begin(), rates_.end(), [&](const MeasuredRate& r) {
    return r.op == op && r.type == type && r.packed == packed;
  });
}

std::optional<double> RateTable::element_seconds(RateOp op, DType type, bool packed,
                                                 double n_tokens) const {
  const auto of = [&](DType t, bool layout) -> std::optional<double> {
    std::vector<const MeasuredRate*> kind;
    for (const MeasuredRate& r : rates_) {
      if (r.op == op && r.type == t && r.packed == layout) kind.push_back(&r);
    }
    if (kind.empty()) return std::nullopt;
    return interpolated(kind, n_tokens);
  };
  for (const bool layout : {packed, !packed}) {
    if (const auto own = of(type, layout)) return own;
    std::optional<double> slowest;
    for (const MeasuredRate& r : rates_) {
      if (r.op != op || r.packed != layout || r.type == DType::f32) continue;
      const auto seconds = of(r.type, layout);
      if (seconds && (!slowest || *seconds > *slowest)) slowest = seconds;
    }
    if (slowest) return slowest;
  }
  return std::nullopt;
}

std::optional<double> RateTable::attention_seconds(const AttentionWork& work, DType cache_type,
                                                   uint64_t n_past, uint64_t n_tokens) const {
  // Of the numbers of queries that were measured the nearest: one token has kernels of its own.
  std::vector<const MeasuredRate*> kind;
  for (const DType type : {cache_type, DType::f16, DType::q8_0, DType::f32}) {
    for (const MeasuredRate& r : rates_) {
      const bool is_alike = (r.n_tokens == 1) == (n_tokens == 1);
      if (r.op == RateOp::attention && r.type == type && is_alike) kind.push_back(&r);
    }
    if (!kind.empty()) break;
  }
  if (kind.empty()) return std::nullopt;
  uint32_t nearest = kind.front()->n_tokens;
  for (const MeasuredRate* r : kind) {
    const auto ratio = [&](uint32_t n) {
      const double q = static_cast<double>(n) / static_cast<double>(n_tokens);
      return std::max(q, 1 / q);
    };
    if (ratio(r->n_tokens) < ratio(nearest)) nearest = r->n_tokens;
  }
  std::erase_if(kind, [&](const MeasuredRate* r) { return r->n_tokens != nearest; });
  const auto seconds = [&](const MeasuredRate& r) {
    return work.flop(r.n_past, r.n_tokens) / r.flop_per_s;
  };
  // The time grows along a line with what is cached; the last two points go on beyond the last.
  size_t i = std::min<size_t>(1, kind.size() - 1);
  while (i + 1 < kind.size() && kind[i]->n_past < n_past) ++i;
  const MeasuredRate &a = *kind[i > 0 ? i - 1 : 0], &b = *kind[i];
  const double at = kind.size() == 1 ? work.flop(n_past, nearest) / a.flop_per_s
                                     : on_line(a.n_past, seconds(a), b.n_past, seconds(b),
                                               static_cast<double>(n_past));
  return std::max(at, 0.0) * work.flop(n_past, n_tokens) / work.flop(n_past, nearest);
}

DType read_type(const JsonNode& node) {
  const auto all = all_dtypes();
  const auto found = std::find_if(all.begin(), all.end(),
                                  [&](const DTypeInfo& t) { return t.name == node.string(); });
  if (found == all.end()) node.fail_expected("a type as `inspect` names it, as in Q4_K");
  return found->type;
}

std::vector<MeasuredRate> read_rates(const JsonNode& array) {
  std::vector<MeasuredRate> rates;
  for (const JsonNode* node : array.elements()) rates.push_back(read_rate(*node));
  return rates;
}

nlohmann::ordered_json rates_json(const std::vector<MeasuredRate>& rates) {
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const MeasuredRate& r : rates) {
    nlohmann::ordered_json json = {
        {"op", name_of(r.op)}, {"type", name_of(r.type)}, {"tokens", r.n_tokens}};
    if (r.op == RateOp::attention) json["past"] = r.n_past;
    json["gflops"] = rounded(r.flop_per_s / kGiga);
    if (!r.packed) json["packed"] = false;
    if (!r.measured.empty()) json["measured"] = r.measured;
    out.push_back(std::move(json));
  }
  return out;
}

}  // namespace hybrid

#include "runtime/bench_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/text.h"
#include "base/units.h"

namespace hybrid {
namespace {

using Json = nlohmann::ordered_json;

double percent_of_peak(const BenchRow& row) {
  return row.peak_gb_per_s > 0 ? 100 * row.result.gb_per_s() / row.peak_gb_per_s : 0;
}

std::string predicted_text(const BenchRow& row) {
  return row.predicted_tps > 0 ? fmt::format("{:.2f}", row.predicted_tps) : "-";
}

// ---- CSV

std::string csv_cell(const Json& value) {
  if (value.is_array()) {
    std::vector<std::string> parts;
    for (const Json& element : value) parts.push_back(element.dump());
    return join(parts, ";");
  }
  if (!value.is_string()) return value.dump();
  const auto& text = value.get_ref<const std::string&>();
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + '"';
}

std::string csv_header(const Json& row) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : row.items()) keys.push_back(key);
  return join(keys, ",") + "\n";
}

std::string csv_line(const Json& row) {
  std::vector<std::string> cells;
  for (const auto& [key, value] : row.items()) cells.push_back(csv_cell(value));
  return join(cells, ",") + "\n";
}

// ---- Markdown

struct Cell {
  std::string title;
  std::string text;
  bool is_number;
  size_t min_width;  // so that later rows, whose texts are not known yet, line up
};

std::string params_text(uint64_t n_params) {
  const auto n = static_cast<double>(n_params);
  return n < 1e9 ? fmt::format("{:.2f} M", n * 1e-6) : fmt::format("{:.2f} B", n * 1e-9);
}

/// A '|' would end the cell.
std::string escaped(const std::string& text) { return join(split(text, '|'), "\\|"); }

std::vector<Cell> cells_of(const BenchRow& row, const std::vector<std::string>& shown) {
  std::vector<Cell> cells = {
      {"model", escaped(row.model), false, 0},
      {"size", format_bytes(row.size_bytes), true, 0},
      {"params", params_text(row.n_params), true, 0},
      {"isa", row.isa, false, 11},  // avx512_vnni
      {"threads", std::to_string(row.n_threads), true, 0},
  };
  const Json json = bench_json(row);
  for (const std::string& key : shown) {
    const bool is_number = json.at(key).is_number();
    cells.push_back({key, csv_cell(json.at(key)), is_number, 4});
  }
  const BenchResult& r = row.result;
  cells.insert(cells.end(),
               {{"test", row.test.name(), true, 14},
                {"t/s", fmt::format("{:.2f} ± {:.2f}", r.tps_mean(), r.tps_stddev()), true, 17},
                {"GB/s", fmt::format("{:.2f}", r.gb_per_s()), true, 7},
                {"% of bandwidth", fmt::format("{:.1f}", percent_of_peak(row)), true, 0},
                {"predicted", predicted_text(row), true, 0}});
  return cells;
}

std::string padded(const std::string& text, bool is_number, size_t width) {
  return is_number ? fmt::format(" {:>{}} |", text, width) : fmt::format(" {:<{}} |", text, width);
}

std::string table_header(const std::vector<Cell>& cells, const std::vector<size_t>& widths) {
  std::string titles = "|", rule = "|";
  for (size_t i = 0; i < cells.size(); ++i) {
    titles += padded(cells[i].title, cells[i].is_number, widths[i]);
    const std::string dashes(widths[i] - 1, '-');
    rule += fmt::format(" {}{} |", dashes, cells[i].is_number ? ':' : '-');
  }
  return titles + "\n" + rule + "\n";
}

std::string table_line(const std::vector<Cell>& cells, const std::vector<size_t>& widths) {
  std::string line = "|";
  for (size_t i = 0; i < cells.size(); ++i) {
    line += padded(cells[i].text, cells[i].is_number, widths[i]);
  }
  return line + "\n";
}

std::vector<size_t> widths_of(const std::vector<Cell>& cells) {
  std::vector<size_t> widths;
  for (const Cell& cell : cells) {
    widths.push_back(std::max({cell.title.size(), cell.text.size(), cell.min_width}));
  }
  return widths;
}

}  // namespace

nlohmann::ordered_json bench_json(const BenchRow& row) {
  const BenchResult& result = row.result;
  return {{"model", row.model},
          {"size_bytes", row.size_bytes},
          {"n_params", row.n_params},
          {"device", row.device},
          {"isa", row.isa},
          {"n_threads", row.n_threads},
          {"n_threads_used", row.n_threads_used},
          {"n_batch", row.n_batch},
          {"n_ubatch", row.n_ubatch},
          {"mla", row.mla},
          {"fa", row.fa},
          {"amb", row.amb},
          {"rtr", row.rtr},
          {"fmoe", row.fmoe},
          {"ctk", row.ctk},
          {"test", row.test.name()},
          {"n_prompt", row.test.n_prompt},
          {"n_gen", row.test.n_gen},
          {"n_depth", row.test.n_depth},
          {"tps_mean", result.tps_mean()},
          {"tps_stddev", result.tps_stddev()},
          {"tps_samples", result.tps_samples},
          {"gbps", result.gb_per_s()},
          {"peak_gbps", row.peak_gb_per_s},
          {"pct_of_peak_bandwidth", percent_of_peak(row)},
          {"predicted_tps", row.predicted_tps > 0 ? Json(row.predicted_tps) : Json()}};
}

std::optional<BenchFormat> find_bench_format(std::string_view name) {
  if (name == "md") return BenchFormat::md;
  if (name == "csv") return BenchFormat::csv;
  if (name == "jsonl") return BenchFormat::jsonl;
  return std::nullopt;
}

BenchReport::BenchReport(BenchFormat format, std::vector<std::string> shown)
    : format_(format), shown_(std::move(shown)) {}

std::string BenchReport::lines(const BenchRow& row) {
  const bool with_header = !std::exchange(has_header_, true);
  const Json json = bench_json(row);
  switch (format_) {
    case BenchFormat::jsonl:
      return json.dump() + "\n";
    case BenchFormat::csv:
      return (with_header ? csv_header(json) : "") + csv_line(json);
    default:
      break;
  }
  const std::vector<Cell> cells = cells_of(row, shown_);
  if (with_header) widths_ = widths_of(cells);
  return (with_header ? table_header(cells, widths_) : "") + table_line(cells, widths_);
}

}  // namespace hybrid

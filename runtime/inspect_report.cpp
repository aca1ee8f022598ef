#include "runtime/inspect_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/units.h"
#include "base/utf8.h"
#include "runtime/text_table.h"

namespace hybrid {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxJsonElements = 16;
constexpr size_t kMaxTextElements = 8;
constexpr size_t kMaxTextBytes = 80;  // of one string
constexpr size_t kMaxPathBytes = 4096;

uint64_t n_elements(const GgufTensorInfo& info) {
  return info.ne[0] * info.ne[1] * info.ne[2] * info.ne[3];
}

/// An f32 was widened to double; its own shortest decimal form is what people wrote into the file.
std::string decimal(double value, GgufType type) {
  return type == GgufType::f32 ? fmt::format("{}", static_cast<float>(value))
                               : fmt::format("{}", value);
}

// ---- text

std::string quoted(const std::string& text) { return '"' + printable(text, kMaxTextBytes) + '"'; }

std::string value_text(const std::string& value, GgufType) { return quoted(value); }
std::string value_text(double value, GgufType type) { return decimal(value, type); }
std::string value_text(bool value, GgufType) { return value ? "true" : "false"; }
std::string value_text(uint64_t value, GgufType) { return fmt::format("{}", value); }
std::string value_text(int64_t value, GgufType) { return fmt::format("{}", value); }

std::string value_text(const GgufArray& array, GgufType) {
  const size_t n_shown = std::min(array.size(), kMaxTextElements);
  std::string out;
  std::visit(
      [&](const auto& values) {
        for (size_t i = 0; i < n_shown; ++i) {
          if (i > 0) out += ", ";
          out += value_text(values[i], array.element);
        }
      },
      array.values);
  if (n_shown < array.size()) out += ", ...";
  return fmt::format("{} {}: [{}]", array.size(), array.size() == 1 ? "value" : "values", out);
}

std::string type_text(const GgufValue& value) {
  const auto* array = std::get_if<GgufArray>(&value.value);
  return array == nullptr ? std::string(name_of(value.type))
                          : fmt::format("{}[]", name_of(array->element));
}

std::string shape_text(const GgufTensorInfo& info) {
  std::string out;
  for (uint32_t d = 0; d < info.n_dims; ++d) out += fmt::format("{}{}", d ? " x " : "", info.ne[d]);
  return out;
}

std::string files_text(const GgufFile& file) {
  TextTable table("><<");
  for (size_t i = 0; i < file.parts().size(); ++i) {
    const GgufFile::Part& part = file.parts()[i];
    table.add({std::to_string(i), printable(part.path.string(), kMaxPathBytes),
               format_bytes(part.n_bytes)});
  }
  return fmt::format("GGUF version {}, {} file(s), {}\n{}", file.version(), file.parts().size(),
                     format_bytes(file.total_bytes()), table.str());
}

std::string metadata_text(const GgufMetadata& metadata) {
  TextTable table("<<<");
  for (const auto& [key, value] : metadata.entries()) {
    const auto text = [type = value.type](const auto& v) { return value_text(v, type); };
    table.add({printable(key), type_text(value), std::visit(text, value.value)});
  }
  return fmt::format("\n{} metadata keys\n{}", metadata.entries().size(), table.str());
}

std::string tensors_text(const GgufFile& file) {
  TextTable table("<<<>>");
  table.add({"name", "type", "shape", "bytes", "part"});
  for (const GgufTensor& tensor : file.tensors()) {
    const GgufTensorInfo& info = tensor.info;
    table.add({printable(info.name, kMaxPathBytes), std::string(name_of(info.type)),
               shape_text(info), std::to_string(info.n_bytes), std::to_string(tensor.part)});
  }
  return fmt::format("\n{} tensors (shape: contiguous dimension first)\n{}", file.tensors().size(),
                     file.tensors().empty() ? "" : table.str());
}

std::string totals_text(const GgufFile& file) {
  struct Total {
    uint64_t n_tensors = 0, n_elements = 0, n_bytes = 0;
  };
  std::map<DType, Total> totals;
  for (const GgufTensor& tensor : file.tensors()) {
    Total& total = totals[tensor.info.type];
    total.n_tensors += 1;
    total.n_elements += n_elements(tensor.info);
    total.n_bytes += tensor.info.n_bytes;
  }
  const uint64_t n_bytes = tensor_bytes(file);
  TextTable table("<>>>>");
  table.add({"type", "tensors", "parameters", "size", "share"});
  for (const auto& [type, total] : totals) {
    const double share = static_cast<double>(total.n_bytes) / static_cast<double>(n_bytes);
    table.add({std::string(name_of(type)), std::to_string(total.n_tensors),
               std::to_string(total.n_elements), format_bytes(total.n_bytes),
               fmt::format("{:.1f} %", 100 * share)});
  }
  table.add({"all", std::to_string(file.tensors().size()), std::to_string(n_params(file)),
             format_bytes(n_bytes), n_bytes > 0 ? "100.0 %" : "-"});
  return "\ntotals\n" + table.str();
}

// ---- JSON

std::string valid_utf8(const std::string& text) {
  if (find_invalid_utf8(text) == std::string::npos) return text;
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(std::string_view(text).substr(at));
    if (c.valid)
      out += text.substr(at, c.length);
    else
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[at]));
    at += c.valid ? c.length : 1;
  }
  return out;
}

Json value_json(const std::string& value, GgufType, bool) { return valid_utf8(value); }
Json value_json(bool value, GgufType, bool) { return value; }
Json value_json(uint64_t value, GgufType, bool) { return value; }
Json value_json(int64_t value, GgufType, bool) { return value; }

Json value_json(double value, GgufType type, bool) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return std::stod(decimal(value, type));
}

Json value_json(const GgufArray& array, GgufType, bool full) {
  const bool is_whole = full || array.size() <= kMaxJsonElements;
  const size_t n_shown = is_whole ? array.size() : kMaxJsonElements;
  Json elements = Json::array();
  std::visit(
      [&](const auto& values) {
        for (size_t i = 0; i < n_shown; ++i) {
          elements.push_back(value_json(values[i], array.element, full));
        }
      },
      array.values);
  if (is_whole) return elements;
  return {{"type", name_of(array.element)}, {"count", array.size()}, {"first", elements}};
}

Json tensor_json(const GgufTensor& tensor) {
  const GgufTensorInfo& info = tensor.info;
  return {{"name", info.name},
          {"type", name_of(info.type)},
          {"shape", std::vector<uint64_t>(info.ne.begin(), info.ne.begin() + info.n_dims)},
          {"bytes", info.n_bytes},
          {"offset", info.offset},
          {"part", tensor.part}};
}

}  // namespace

uint64_t n_params(const GgufFile& file) {
  uint64_t n = 0;
  for (const GgufTensor& tensor : file.tensors()) n += n_elements(tensor.info);
  return n;
}

uint64_t tensor_bytes(const GgufFile& file) {
  uint64_t n = 0;
  for (const GgufTensor& tensor : file.tensors()) n += tensor.info.n_bytes;
  return n;
}

std::string inspect_text(const GgufFile& file) {
  return files_text(file) + metadata_text(file.metadata()) + tensors_text(file) + totals_text(file);
}

nlohmann::ordered_json inspect_json(const GgufFile& file, bool full) {
  Json files = Json::array();
  for (const GgufFile::Part& part : file.parts()) {
    files.push_back({{"path", valid_utf8(part.path.string())}, {"bytes", part.n_bytes}});
  }
  Json metadata = Json::object();
  for (const auto& [key, value] : file.metadata().entries()) {
    const auto json = [type = value.type, full](const auto& v) {
      return value_json(v, type, full);
    };
    metadata[key] = std::visit(json, value.value);
  }
  Json tensors = Json::array();
  for (const GgufTensor& tensor : file.tensors()) tensors.push_back(tensor_json(tensor));
  return {{"files", files},     {"version", file.version()},  {"metadata", metadata},
          {"tensors", tensors}, {"n_params", n_params(file)}, {"total_bytes", file.total_bytes()}};
}

}  // namespace hybrid

#include "runtime/text_table.h"

#include <algorithm>

#include "base/error.h"

namespace hybrid {
namespace {

/// Characters, not bytes: names may hold any UTF-8.
size_t width(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

}  // namespace

TextTable::TextTable(std::string align) : align_(std::move(align)), widths_(align_.size(), 0) {}

void TextTable::add(std::vector<std::string> cells) {
  HYBRID_CHECK(cells.size() == align_.size());
  for (size_t i = 0; i < cells.size(); ++i) widths_[i] = std::max(widths_[i], width(cells[i]));
  rows_.push_back(std::move(cells));
}

std::string TextTable::str() const {
  std::string out;
  for (const auto& row : rows_) {
    out += " ";
    for (size_t i = 0; i < row.size(); ++i) out += cell(row, i);
    out.erase(out.find_last_not_of(' ') + 1);
    out += '\n';
  }
  return out;
}

std::string TextTable::cell(const std::vector<std::string>& row, size_t i) const {
  const std::string padding(widths_[i] - width(row[i]), ' ');
  if (align_[i] == '>') return " " + padding + row[i];
  return " " + row[i] + (i + 1 < row.size() ? padding : "");
}

}  // namespace hybrid

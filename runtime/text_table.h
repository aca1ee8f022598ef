#pragma once
// Lines of cells in columns, for reports that people read.

#include <string>
#include <vector>

namespace hybrid {

/// Columns are as wide as their widest cell; the last one is left as it is.
class TextTable {
 public:
  /// `align` has a character for each column: '<' or '>'.
  explicit TextTable(std::string align);

  void add(std::vector<std::string> cells);
  /// Each line begins with two spaces and ends with a newline.
  std::string str() const;

 private:
  std::string cell(const std::vector<std::string>& row, size_t i) const;

  std::string align_;
  std::vector<size_t> widths_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace hybrid

#pragma once
// Plots of lines as SVG: drawn from numbers alone, the same bytes for the same numbers.

#include <string>
#include <vector>

namespace hybrid {

struct SvgPoint {
  double x = 0, y = 0;
  bool is_marked = false;  // drawn filled
};

struct SvgPlot {
  std::string title, x_label, y_label;
  std::vector<SvgPoint> points;  // x ascending; joined by a line
};

/// One plot below the other. y begins at 0; x has a tick at each point. Text is escaped.
std::string svg_of(const std::vector<SvgPlot>& plots);

}  // namespace hybrid

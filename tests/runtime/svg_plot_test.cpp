#include "runtime/svg_plot.h"

#include <doctest/doctest.h>

using namespace hybrid;

namespace {

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

}  // namespace

TEST_CASE("a plot has a circle for each point, and marks those it should") {
  const SvgPlot plot{"decode", "threads", "t/s", {{1, 10}, {2, 19, true}, {4, 18}}};
  const std::string svg = svg_of({plot, plot});
  CHECK(svg.starts_with("<svg "));
  CHECK(svg.ends_with("</svg>\n"));
  CHECK(count(svg, "<circle ") == 6);
  CHECK(count(svg, "fill=\"#2563eb\"/>") == 2);
  CHECK(count(svg, "<polyline ") == 2);
  CHECK(count(svg, ">decode<") == 2);
  CHECK(count(svg, "<text ") == count(svg, "</text>"));
}

TEST_CASE("a plot's words cannot end it") {
  const std::string svg = svg_of({{"<a> & \"b\"\n", "x", "y", {{1, 1}}}});
  CHECK(count(svg, "<a>") == 0);
  CHECK(count(svg, "&lt;a&gt; &amp; &quot;b&quot; ") == 1);
}

TEST_CASE("no point, one point, and points of zero are plots, too") {
  for (const SvgPlot& plot : {SvgPlot{"t", "x", "y", {}}, SvgPlot{"t", "x", "y", {{5, 3}}},
                              SvgPlot{"t", "x", "y", {{1, 0}, {2, 0}}}}) {
    const std::string svg = svg_of({plot});
    CHECK(count(svg, "nan") + count(svg, "inf") == 0);
    CHECK(count(svg, "<circle ") == plot.points.size());
  }
}

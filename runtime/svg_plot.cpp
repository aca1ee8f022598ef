#include "runtime/svg_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace hybrid {
namespace {

constexpr double kWidth = 640, kHeight = 300;  // of a plot
constexpr double kLeft = 64, kRight = 16, kTop = 34, kBottom = 48;

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return out;
}

/// 1, 2 or 5 times a power of ten: about five of them make `most`.
double step_of(double most) {
  const double rough = most / 5, power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (rough <= factor * power) return factor * power;
  }
  return 10 * power;
}

class Drawing {
 public:
  Drawing(const SvgPlot& plot, double y_offset) : plot_(plot), y_offset_(y_offset) {
    if (!plot.points.empty()) {
      x_min_ = plot.points.front().x;
      x_max_ = std::max(plot.points.back().x, x_min_ + 1e-9);
    }
    for (const SvgPoint& p : plot.points) y_max_ = std::max(y_max_, p.y);
    y_max_ = y_max_ > 0 ? 1.05 * y_max_ : 1;
  }

  std::string str() {
    text(kWidth / 2, kTop - 14, "middle", plot_.title, 14);
    text((kLeft + kWidth - kRight) / 2, kHeight - 10, "middle", plot_.x_label, 12);
    text(kLeft - 48, kTop - 14, "start", plot_.y_label, 12);
    const double step = step_of(y_max_);
    for (double value = 0; value <= y_max_; value += step) {
      line(kLeft, y(value), kWidth - kRight, y(value), "#ddd");
      text(kLeft - 6, y(value) + 4, "end", fmt::format("{:g}", value), 11);
    }
    std::string path;
    for (const SvgPoint& p : plot_.points) {
      line(x(p.x), y(0), x(p.x), y(0) + 4, "#888");
      text(x(p.x), y(0) + 17, "middle", fmt::format("{:g}", p.x), 11);
      path += fmt::format("{:.1f},{:.1f} ", x(p.x), y(p.y) + y_offset_);
    }
    out_ += fmt::format(
        "<polyline fill=\"none\" stroke=\"#2563eb\" stroke-width=\"2\" points=\"{}\"/>\n", path);
    for (const SvgPoint& p : plot_.points) {
      out_ += fmt::format(
          "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" stroke=\"#2563eb\" fill=\"{}\"/>\n", x(p.x),
          y(p.y) + y_offset_, p.is_marked ? "#2563eb" : "#fff");
    }
    return out_;
  }

 private:
  double x(double value) const {
    return kLeft + 12 + (kWidth - kLeft - kRight - 24) * (value - x_min_) / (x_max_ - x_min_);
  }
  double y(double value) const {
    return kHeight - kBottom - (kHeight - kTop - kBottom) * value / y_max_;
  }
  void line(double x0, double y0, double x1, double y1, const char* colour) {
    out_ += fmt::format(
        "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\"/>\n", x0,
        y0 + y_offset_, x1, y1 + y_offset_, colour);
  }
  void text(double at_x, double at_y, const char* anchor, const std::string& words, int size) {
    out_ += fmt::format(
        "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" font-size=\"{}\">{}</text>\n", at_x,
        at_y + y_offset_, anchor, size, escaped(words));
  }

  const SvgPlot& plot_;
  double y_offset_;
  double x_min_ = 0, x_max_ = 1, y_max_ = 0;
  std::string out_;
};

}  // namespace

std::string svg_of(const std::vector<SvgPlot>& plots) {
  const double height = kHeight * static_cast<double>(std::max<size_t>(plots.size(), 1));
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{:g}\" height=\"{:g}\" "
      "font-family=\"sans-serif\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
      kWidth, height);
  for (size_t i = 0; i < plots.size(); ++i) {
    out += Drawing(plots[i], kHeight * static_cast<double>(i)).str();
  }
  return out + "</svg>\n";
}

}  // namespace hybrid

#include "base/trace.h"

#include <algorithm>

#include "base/error.h"

namespace hybrid {
namespace {

/// As JSON has it, in quotes.
std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out + '"';
}

}  // namespace

uint32_t Trace::track(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find(tracks_, name);
  const auto index = static_cast<uint32_t>(found - tracks_.begin());
  if (found == tracks_.end()) tracks_.push_back(name);
  return index;
}

void Trace::add(uint32_t track, const char* name, std::string_view detail, Clock::time_point begin,
                Clock::time_point end) {
  const std::lock_guard lock(mutex_);
  if (zones_.size() >= kMostZones) {
    ++n_dropped_;
    return;
  }
  const std::string* kept = detail.empty() ? nullptr : &*details_.emplace(detail).first;
  zones_.push_back({name, kept, track, begin, end});
}

size_t Trace::n_zones() const {
  const std::lock_guard lock(mutex_);
  return zones_.size();
}

size_t Trace::n_dropped() const {
  const std::lock_guard lock(mutex_);
  return n_dropped_;
}

std::string Trace::json() const {
  const std::lock_guard lock(mutex_);
  const auto us = [](Clock::duration d) { return std::chrono::duration<double, std::micro>(d); };
  std::string out = "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n";
  for (size_t i = 0; i < tracks_.size(); ++i) {
    out += fmt::format(
        R"({{"ph": "M", "name": "thread_name", "pid": 1, "tid": {}, "args": {{"name": {}}}}},)"
        "\n",
        i, quoted(tracks_[i]));
  }
  for (const Zone& z : zones_) {
    out += fmt::format(
        R"({{"ph": "X", "pid": 1, "tid": {}, "name": {}, "ts": {:.3f}, "dur": {:.3f})", z.track,
        quoted(z.name), us(z.begin - start_).count(), us(z.end - z.begin).count());
    if (z.detail != nullptr) out += fmt::format(R"(, "args": {{"of": {}}})", quoted(*z.detail));
    out += "},\n";
  }
  out += fmt::format(
      R"({{"ph": "M", "name": "process_name", "pid": 1, "args": {{"name": {}}}}}]}})",
      quoted(n_dropped_ == 0 ? "hybrid-run"
                             : fmt::format("hybrid-run ({} zones left out)", n_dropped_)));
  return out + "\n";
}

}  // namespace hybrid

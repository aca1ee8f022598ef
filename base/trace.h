#pragma once
// What was done when, by whom: for chrome://tracing and ui.perfetto.dev.

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

namespace hybrid {

class Trace {
 public:
  using Clock = std::chrono::steady_clock;

  /// A row of the picture, for who does one thing at a time. The same name is the same row.
  uint32_t track(const std::string& name);

  /// Any thread may call. name: a literal; detail is copied. Beyond kMostZones nothing is kept.
  void add(uint32_t track, const char* name, std::string_view detail, Clock::time_point begin,
           Clock::time_point end);

  static constexpr size_t kMostZones = size_t{4} << 20;
  size_t n_zones() const;
  size_t n_dropped() const;

  /// Chrome's trace event format, times in microseconds since the trace began.
  std::string json() const;

 private:
  struct Zone {
    const char* name;
    const std::string* detail;
    uint32_t track;
    Clock::time_point begin, end;
  };

  mutable std::mutex mutex_;
  const Clock::time_point start_ = Clock::now();
  std::vector<std::string> tracks_;
  std::unordered_set<std::string> details_;
  std::vector<Zone> zones_;
  size_t n_dropped_ = 0;
};

/// From its construction to its end; nothing without a trace.
class TraceZone {
 public:
  TraceZone(Trace* trace, uint32_t track, const char* name, std::string detail = {})
      : trace_(trace), track_(track), name_(name), detail_(std::move(detail)) {
    if (trace_ != nullptr) begin_ = Trace::Clock::now();
  }
  ~TraceZone() {
    if (trace_ != nullptr) trace_->add(track_, name_, detail_, begin_, Trace::Clock::now());
  }
  TraceZone(const TraceZone&) = delete;
  TraceZone& operator=(const TraceZone&) = delete;

 private:
  Trace* trace_;
  uint32_t track_;
  const char* name_;
  std::string detail_;
  Trace::Clock::time_point begin_;
};

}  // namespace hybrid

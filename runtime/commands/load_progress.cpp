#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>

#include "base/units.h"
#include "runtime/commands/command.h"

namespace hybrid::commands {
namespace {

using Clock = std::chrono::steady_clock;

class LoadBar {
 public:
  explicit LoadBar(bool draw) : draw_(draw), start_(Clock::now()) {}

  void update(const LoadStep& step) {
    if (stop_flag() && !step.finished) {
      erase();
      throw Interrupted{};
    }
    const double seconds = seconds_of(step.activity);
    const auto n_done = static_cast<double>(step.n_done), n_all = static_cast<double>(step.n_all);
    const double share = step.n_done > 0 ? n_done / n_all : 1;
    const double gbps = seconds > 0 ? n_done / seconds / 1e9 : 0;
    if (step.finished) {
      erase();
      log_info(fmt::format("{} in {:.1f} s ({:.2f} GB/s)", what_was_done(step), seconds, gbps));
    } else if (draw_ && seconds > 0.3) {
      draw(share, gbps, seconds * (1 - share) / share);
    }
  }

 private:
  /// Since the activity began: packing begins anew where a cache turns out to be damaged.
  double seconds_of(LoadActivity activity) {
    const Clock::time_point now = Clock::now();
    if (activity_ && *activity_ != activity) start_ = now;
    activity_ = activity;
    return std::chrono::duration<double>(now - start_).count();
  }

  static std::string what_was_done(const LoadStep& step) {
    const std::string bytes = format_bytes(step.n_all);
    const std::string cache = printable(step.cache.string(), 4096);
    switch (step.activity) {
      case LoadActivity::read_cache:
        return fmt::format("read {} of packed weights from {}", bytes, cache);
      case LoadActivity::write_cache:
        return fmt::format("wrote {} of packed weights to {}", bytes, cache);
      case LoadActivity::check_cache:
        return fmt::format("checked {} of packed weights in {}", bytes, cache);
      case LoadActivity::upload:
        return fmt::format("put {} of weights on {}", bytes, step.device);
      default:
        return fmt::format("packed {} of weights", bytes);
    }
  }

  void draw(double share, double gbps, double seconds_left) {
    constexpr int kWidth = 30;
    const auto n_full = static_cast<size_t>(share * kWidth);
    std::fprintf(stderr, "\r[%s%s] %3.0f %%  %.2f GB/s  %.0f s left   ",
                 std::string(n_full, '#').c_str(), std::string(kWidth - n_full, '.').c_str(),
                 share * 100, gbps, seconds_left);
    std::fflush(stderr);
    drawn_ = true;
  }
  void erase() {
    if (drawn_) std::fprintf(stderr, "\r%70s\r", "");
  }

  bool draw_;
  bool drawn_ = false;
  Clock::time_point start_;
  std::optional<LoadActivity> activity_;
};

}  // namespace

LoadProgress load_progress(const Options& options) {
  const bool draw = isatty(STDERR_FILENO) != 0 && !options.get_toggle("log-json");
  const auto bar = std::make_shared<LoadBar>(draw);
  return [bar](const LoadStep& step) { bar->update(step); };
}

}  // namespace hybrid::commands

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <memory>

#include "base/units.h"
#include "runtime/commands/command.h"

namespace hybrid::commands {
namespace {

using Clock = std::chrono::steady_clock;

class LoadBar {
 public:
  explicit LoadBar(bool draw) : draw_(draw), start_(Clock::now()) {}

  void update(uint64_t n_done, uint64_t n_all) {
    if (stop_flag()) {
      erase();
      throw Interrupted{};
    }
    const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
    const double share = n_all > 0 ? static_cast<double>(n_done) / static_cast<double>(n_all) : 1;
    const double gbps = seconds > 0 ? static_cast<double>(n_done) / seconds / 1e9 : 0;
    if (n_done < n_all) {
      if (draw_ && seconds > 0.3) draw(share, gbps, seconds * (1 - share) / share);
      return;
    }
    erase();
    log_info(fmt::format("packed {} of weights in {:.1f} s ({:.2f} GB/s)", format_bytes(n_all),
                         seconds, gbps));
  }

 private:
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
};

}  // namespace

LoadProgress load_progress(const Options& options) {
  const bool draw = isatty(STDERR_FILENO) != 0 && !options.get_toggle("log-json");
  const auto bar = std::make_shared<LoadBar>(draw);
  return [bar](uint64_t n_done, uint64_t n_all) { bar->update(n_done, n_all); };
}

}  // namespace hybrid::commands

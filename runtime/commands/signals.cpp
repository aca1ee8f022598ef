#include <csignal>

#include "runtime/commands/command.h"

namespace hybrid::commands {
namespace {

std::atomic<bool> stopped{false};
std::atomic<int> signal_number{0};
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free);

constexpr int kSignals[] = {SIGINT, SIGTERM};

void on_signal(int number) {
  signal_number = number;
  stopped = true;
  for (const int s : kSignals) signal(s, SIG_DFL);
}

}  // namespace

void catch_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  // No SA_RESTART, so that waiting for input ends too.
  for (const int s : kSignals) {
    struct sigaction before {};
    sigaction(s, nullptr, &before);
    if (before.sa_handler != SIG_IGN) sigaction(s, &action, nullptr);  // nohup stays in force
  }
}

const std::atomic<bool>& stop_flag() { return stopped; }

int stop_signal() { return signal_number; }

}  // namespace hybrid::commands

#include <csignal>

#include "runtime/commands/command.h"

namespace hybrid::commands {
namespace {

std::atomic<bool> stopped{false};
std::atomic<int> signal_number{0};
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free);

void on_signal(int signal) {
  signal_number = signal;
  stopped = true;
}

}  // namespace

void catch_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  // No SA_RESTART, so that waiting for input ends too; reset, so that the second signal kills.
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

const std::atomic<bool>& stop_flag() { return stopped; }

int stop_signal() { return signal_number; }

}  // namespace hybrid::commands

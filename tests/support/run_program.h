#pragma once
// Runs the built program and catches what it says.

#include <string>
#include <vector>

namespace hybrid::test {

struct ProgramResult {
  int exit_code = -1;  // 128 + signal where a signal ended it
  std::string out;
  std::string err;
};

struct ProgramInput {
  std::string text = "";               // its standard input
  std::string stdout_file = "";        // where standard output goes instead of `out`
  int interrupt_after_ms = -1;         // send SIGINT then
  std::string interrupt_at_file = "";  // send SIGINT as soon as this file exists
  bool refuse_tiles = false;           // the kernel denies it the matrix units' registers
};

/// hybrid-run with these words. Fails the test where it does not end within two minutes.
ProgramResult run_program(const std::vector<std::string>& words, const ProgramInput& input = {});

/// True for exactly one line that starts "hybrid-run: ".
bool is_one_error_line(const std::string& err);

}  // namespace hybrid::test

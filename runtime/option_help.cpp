#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "runtime/option_table.h"

namespace hybrid {
namespace {

/// Flags people bring from llama.cpp and ik_llama.cpp that mean nothing here.
constexpr std::pair<std::string_view, std::string_view> kForeignFlags[] = {
    {"--no-mmap", "files are always mapped; -rtr 1 copies weights into their own memory"},
    {"--mmap", "files are always mapped"},
    {"--mlock", "give the process a memory lock limit and use -rtr 1"},
    {"-mg", "use -ot or --device to choose devices"},
    {"--main-gpu", "use -ot or --device to choose devices"},
    {"-sm", "layers are placed by the plan; use -ts or -ot"},
    {"--split-mode", "layers are placed by the plan; use -ts or -ot"},
    {"-nkvo", "the cache lies where its layer's attention lies; use -ot"},
    {"--no-kv-offload", "the cache lies where its layer's attention lies; use -ot"},
    {"-cnv", "use the command `chat`"},
    {"--conversation", "use the command `chat`"},
    {"-i", "use the command `chat`"},
    {"--interactive", "use the command `chat`"},
    {"--jinja", "the known chat templates are built in"},
    {"-e", "write the characters themselves, or use -f FILE"},
    {"--escape", "write the characters themselves, or use -f FILE"},
    {"-s", "use --seed"},
    {"-ger", "use --expert-groups on"},
    {"-ser", "experts are never skipped"},
    {"-muge", "merged gate and up tensors are read as they are"},
    {"-mqkv", "projections are read as they are"},
    {"-gr", "there is no graph to reuse"},
    {"-thp", "huge pages are used where they help"},
    {"--fit", "use the command `plan`"},
    {"--override-kv", "correct the file instead"},
    {"-l", "logit biases are not supported"},
    {"--logit-bias", "logit biases are not supported"},
    {"--mirostat", "use --temp, --top-k, --top-p, --min-p"},
    {"--rope-scaling", "the file's own scaling is used"},
    {"--rope-freq-base", "the file's own scaling is used"},
    {"--rope-freq-scale", "the file's own scaling is used"},
    {"--yarn-orig-ctx", "the file's own scaling is used"},
    {"--keep", "the context is never shifted"},
    {"--no-warmup", "there is no warm-up"},
    {"--no-display-prompt", "use `2>/dev/null` for the statistics; the prompt is not repeated"},
    {"-hf", "nothing is downloaded; give a file with -m"},
    {"-mu", "nothing is downloaded; give a file with -m"},
};

/// Wraps help text into a column that starts at `indent`.
std::string wrap(std::string_view text, size_t indent, size_t width) {
  std::string out;
  size_t column = indent;
  for (const std::string& word : split(text, ' ')) {
    if (column > indent && column + 1 + word.size() > width) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
  }
  return out;
}

std::string option_line(const OptionSpec& o) {
  std::string left = "  ";
  if (!o.short_name.empty()) left += std::string(o.short_name) + ", ";
  left += "--" + std::string(o.name);
  if (o.kind == OptionKind::toggle) left += " [0|1]";
  if (!o.value_name.empty()) left += " " + std::string(o.value_name);
  std::string right(o.help);
  if (!o.choices.empty()) right += fmt::format(" ({})", o.choices);
  const std::string_view shown = o.default_text.empty() ? o.default_value : o.default_text;
  if (!shown.empty()) right += fmt::format(" [{}]", shown);
  if (o.available == "-") {
    right += " -- not in this version yet";
  } else if (!o.available.empty()) {
    right += fmt::format(" -- this version: {}", o.available);
  }
  constexpr size_t kColumn = 34;
  left += left.size() + 2 > kColumn ? "\n" + std::string(kColumn, ' ')
                                    : std::string(kColumn - left.size(), ' ');
  return left + wrap(right, kColumn, 100) + "\n";
}

}  // namespace

std::optional<std::string_view> foreign_flag_advice(std::string_view flag) {
  for (const auto& [name, advice] : kForeignFlags) {
    if (name == flag) return advice;
  }
  return std::nullopt;
}

std::string help_text(const CommandSpec& command) {
  std::string out =
      fmt::format("hybrid-run {}: {}\n\nOptions, [default]:\n", command.name, command.summary);
  for (const OptionSpec& option : option_table()) {
    if (applies_to(option, command.name)) out += option_line(option);
  }
  return out;
}

std::string help_text() {
  std::string out =
      "hybrid-run COMMAND [OPTIONS]: mixture-of-experts language models on CPU and GPU together\n\n"
      "Commands:\n";
  for (const CommandSpec& command : command_table()) {
    out += fmt::format("  {:<12}{}{}\n", command.name, command.summary,
                       command.available ? "" : " -- not in this version yet");
  }
  out +=
      "\nhybrid-run COMMAND --help tells a command's options; hybrid-run --version the version."
      "\n\nTo begin with: hybrid-run run --demo -p \"And the king said\"\n\n"
      "All options, [default]:\n";
  for (const OptionSpec& option : option_table()) out += option_line(option);
  return out;
}

}  // namespace hybrid

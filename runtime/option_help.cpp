#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "runtime/option_table.h"

namespace hybrid {
namespace {

/// Flags people bring from llama.cpp and ik_llama.cpp that mean nothing here.
constexpr std::string_view kMapped = "files are always mapped";
constexpr std::string_view kDevice = "use --device cuda:N";
constexpr std::string_view kSplit = "layers are divided by -ngl with -ts, or by -ot";
constexpr std::string_view kCacheHome = "a layer's cache lies where its attention is; use -ot";
constexpr std::string_view kFit = "what no rule places is fitted; `hybrid-run plan` shows it";
constexpr std::string_view kStreaming = "experts are computed where they lie in this version";
constexpr std::string_view kChat = "use the command `chat`";
constexpr std::string_view kFileScaling = "the file's own scaling is used";
constexpr std::string_view kNoDownload = "nothing is downloaded; give a file with -m";
constexpr std::string_view kServe = "there is no server in this version yet";
constexpr std::string_view kSampling = "use --temp, --top-k, --top-p, --min-p, --repeat-penalty";
constexpr std::pair<std::string_view, std::string_view> kForeignFlags[] = {
    {"--mmap", kMapped},
    {"--no-mmap", kMapped},
    {"--mlock", kMapped},
    {"-mmp", kMapped},
    {"-mg", kDevice},
    {"--main-gpu", kDevice},
    {"-dev", kDevice},
    {"-sm", kSplit},
    {"--split-mode", kSplit},
    {"-nkvo", kCacheHome},
    {"--no-kv-offload", kCacheHome},
    {"-kvu", "each run has one sequence, and its cache is one"},
    {"--fit", kFit},
    {"-fit", kFit},
    {"-cmoe", "use --cpu-moe"},
    {"-ncmoe", "use --n-cpu-moe N"},
    {"--list-devices", "`hybrid-run topology` shows them"},
    {"--rpc", "there are no remote devices"},
    {"--mla-use", "use -mla"},
    {"-no-fmoe", "use -fmoe 0"},
    {"--no-fused-moe", "use -fmoe 0"},
    {"--no-repack", "use -rtr 0"},
    {"-op", kStreaming},
    {"--offload-policy", kStreaming},
    {"--no-op-offload", kStreaming},
    {"-ooae", kStreaming},
    {"--prompt-cache", "use --cache-file"},
    {"--prompt-cache-all", "use --cache-file, which keeps all of it"},
    {"-md", "there is no speculative decoding in this version"},
    {"--draft-max", "there is no speculative decoding in this version"},
    {"-cb", kServe},
    {"--cont-batching", kServe},
    {"--poll", "threads spin for a while and sleep; there is nothing to set"},
    {"--prio", "use nice"},
    {"-lv", "use -v"},
    {"--log-verbosity", "use -v"},
    {"-st", "use the command `run`"},
    {"--single-turn", "use the command `run`"},
    {"-sysf", "use `chat --system TEXT`"},
    {"--temperature", "use --temp"},
    {"--samplers", kSampling},
    {"--typical", kSampling},
    {"--grammar", "there are no grammars in this version"},
    {"--grammar-file", "there are no grammars in this version"},
    {"-cnv", kChat},
    {"--conversation", kChat},
    {"-i", kChat},
    {"--interactive", kChat},
    {"-no-cnv", "`run` never chats"},
    {"--no-cnv", "`run` never chats"},
    {"-sys", "use `chat --system TEXT`"},
    {"--jinja", "the known chat templates are built in"},
    {"--chat-template-file", "the known chat templates are built in; use --chat-template NAME"},
    {"-e", "write the characters themselves, or use -f FILE"},
    {"--escape", "write the characters themselves, or use -f FILE"},
    {"-s", "use --seed"},
    {"--predict", "use -n"},
    {"--repeat-last-n", "the last 64 tokens are looked at"},
    {"--presence-penalty", kSampling},
    {"--frequency-penalty", kSampling},
    {"--mirostat", kSampling},
    {"-l", "logit biases are not supported"},
    {"--logit-bias", "logit biases are not supported"},
    {"--ignore-eos", "generation ends where the model ends it"},
    {"-ger", "use --expert-groups on"},
    {"-ser", "experts are never skipped"},
    {"-muge", "merged gate and up tensors are read as they are"},
    {"-mqkv", "projections are read as they are"},
    {"-gr", "there is no graph to reuse"},
    {"-grt", "there is no graph"},
    {"-thp", "packed weights (-rtr 1) lie in huge pages where the system has some"},
    {"--override-kv", "correct the file instead"},
    {"--rope-scaling", kFileScaling},
    {"--rope-freq-base", kFileScaling},
    {"--rope-freq-scale", kFileScaling},
    {"--yarn-orig-ctx", kFileScaling},
    {"--keep", "the context is never shifted"},
    {"--no-context-shift", "the context is never shifted"},
    {"--no-warmup", "`bench` runs each test once untimed; nothing else warms up"},
    {"-pg", "use -p P -n G, or -gp P,G for decode behind a prompt"},
    {"-d", "use -gp P,G: decode of G tokens at depth P"},
    {"--n-depth", "use -gp P,G: decode of G tokens at depth P"},
    {"--no-display-prompt", "the prompt is not repeated"},
    {"--color", "the output is plain text"},
    {"-hf", kNoDownload},
    {"-mu", kNoDownload},
    {"--host", kServe},
    {"--port", kServe},
    {"-np", kServe},
    {"--parallel", kServe},
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
  if (!o.list_commands.empty())
    right += fmt::format("; a list, A,B,.., for {}", join(split(o.list_commands, ' '), " and "));
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
      fmt::format("hybrid-run {}: {}{}\n\nOptions, [default]:\n", command.name, command.summary,
                  command.available ? "" : " -- not in this version yet");
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

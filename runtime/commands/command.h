#pragma once
// What the commands share: their entry points, the log, interruption, reading and writing.

#include <atomic>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/trace.h"
#include "runtime/engine.h"
#include "runtime/options.h"
#include "runtime/sequence_file.h"
#include "runtime/tuned_settings.h"

namespace hybrid::commands {

/// Thrown where Ctrl-C (or SIGTERM) ended a command; main turns it into 128 + signal.
struct Interrupted {};

/// Each returns normally or throws Error, UsageError, Interrupted.
void run(const Options& options);
void chat(const Options& options);
void eval(const Options& options);
void perplexity(const Options& options);
void bench(const Options& options);
void plan(const Options& options);
void inspect(const Options& options);
void repack(const Options& options);
void tokenize(const Options& options);
void topology(const Options& options);
void tune(const Options& options);

// --- interruption -------------------------------------------------------------------------------

/// Makes SIGINT and SIGTERM set the flag, unless they are ignored; the second one kills. For
/// commands that look at the flag.
void catch_signals();
const std::atomic<bool>& stop_flag();
int stop_signal();

// --- log: standard error ------------------------------------------------------------------------

void set_up_log(const Options& options);
void log_info(const std::string& message);
void log_detail(const std::string& message);  // with -v

// --- options to engine --------------------------------------------------------------------------

/// -m, or the demo model where --demo asks for it.
std::filesystem::path model_path(const Options& options);
ExpertGroups expert_groups(const Options& options);
/// `plan --machine`: nothing of this machine counts.
bool is_of_another_machine(const Options& options);
/// Sets the kernels' level, too, where the options name one.
RunSettings run_settings(const Options& options);
NumaMode numa_mode(const Options& options);
/// The nodes of --numa.
std::shared_ptr<const NodeUse> nodes_of(const Options& options);
/// The threads of -t and -tb, as many as there are processors for, and the nodes of --numa.
void set_threads(const Options& options, ExecutionOptions& execution);
/// Why there are not as many as were asked for.
std::vector<std::string> thread_notes(const Options& options);
void log_thread_notes(const Options& options);
/// What was asked of the memory nodes, and what was obtained. After the engine was prepared.
void log_nodes(const Options& options, const Engine& engine);
/// Rules, shorthands and budgets.
PlacementRequest placement_request(const Options& options);
/// What settings that `tune` finds hold for: this model, on what these options use of the machine.
TunedKey tuned_key(const Options& options, const GgufFile& model);
/// The options, and for -t, -tb and -ub, where nobody gave them, what `tune` found; which is
/// logged.
Options with_tuned(const Options& options);
/// The engine is to be prepared (Engine::prepare) after the command's checks.
EngineOptions engine_options(const Options& options, Trace* trace = nullptr);
AttentionOptions attention_options(const Options& options);
SamplingParams sampling_params(const Options& options);
/// Shows how far loading or writing a cache is: a bar on a terminal, one line at the end. Throws
/// Interrupted after Ctrl-C.
LoadProgress load_progress(const Options& options);
/// A line for each device with what it holds, the CPU among them; or why found GPUs are not used.
void log_devices(const Engine& engine);
/// One line: version, model, context, threads, kernels; then the model's notes. With -v also what
/// the sequence takes.
void log_banner(const Options& options, const Engine& engine, const Sequence& sequence);

// --- reading and writing ------------------------------------------------------------------------

/// -p, or the content of -f ("-": standard input), verbatim. Throws UsageError unless exactly one
/// is given, and Error for a file that cannot be read.
std::string input_text(const Options& options);
/// A file, or standard input for "-".
std::string read_input(const std::string& path);

/// "1,2,3"; throws UsageError naming the option.
std::vector<TokenId> parse_token_ids(const std::string& text, std::string_view option);

/// Standard output does not take what is written: nothing more can be said there.
struct StdoutError : Error {
  using Error::Error;
};

/// Writes to standard output; throws StdoutError where that fails (a full disk).
void print(std::string_view text);
void flush_stdout();

/// The sequence that --cache-file keeps between runs. Without the option it does nothing.
class CacheFile {
 public:
  /// Restores, and makes sure that the file can be written: what is wrong is known (Error) before
  /// the weights are loaded. The sequence must outlive it.
  CacheFile(const Options& options, Sequence& sequence);

  /// Says what was restored; after the banner.
  void log_restored() const;
  /// Calls `body`, then saves: what is complete, also where the user interrupted it or no longer
  /// reads what it prints.
  template <class Body>
  void save_after(const Body& body) {
    try {
      body();
    } catch (const Interrupted&) {
      save();
      throw;
    } catch (const StdoutError&) {
      save();
      throw;
    }
    save();
  }

 private:
  /// A sequence without tokens leaves the file as it is.
  void save();

  Sequence& sequence_;
  std::optional<SequenceFileWriter> writer_;
  size_t n_restored_ = 0;
};

/// Throws Error where an output (the value of one of `outputs`) is a file that this run also reads
/// (of `inputs`, or a part of the model) or writes.
void check_outputs(const Options& options, const GgufFile& model,
                   const std::vector<std::string_view>& outputs,
                   const std::vector<std::string_view>& inputs);

/// A file being written; throws Error where it cannot be opened, written or closed. A regular file
/// has its name only when it is complete: until close() it is PATH.part.
class OutputFile {
 public:
  explicit OutputFile(std::string path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  void write(const void* data, size_t n_bytes);
  void close();

 private:
  [[noreturn]] void fail_with_errno(const char* action) const;
  std::string path_;
  std::string written_path_;  // path_, or PATH.part
  std::FILE* file_;
};

/// --trace: what the run does is kept, and written at the end, also of one that was interrupted or
/// failed. The file is opened at once: what cannot be written is known before the work.
class TraceFile {
 public:
  explicit TraceFile(const Options& options);
  ~TraceFile();

  /// Null without --trace.
  Trace* trace() { return file_ ? &trace_ : nullptr; }
  /// Throws Error where it cannot be written.
  void write();

 private:
  Trace trace_;
  std::optional<OutputFile> file_;
  std::string path_;
};

}  // namespace hybrid::commands

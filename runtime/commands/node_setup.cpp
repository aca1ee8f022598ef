// --numa, -t and -tb: the nodes and threads that a command uses, and what it says of them.

#include <algorithm>
#include <map>

#include "base/text.h"
#include "numa/cpu_set.h"
#include "runtime/commands/command.h"

namespace hybrid::commands {

NumaMode numa_mode(const Options& options) {
  const auto given = options.find("numa");
  if (!given) return NumaMode::automatic;
  for (const NumaMode mode : {NumaMode::distribute, NumaMode::isolate, NumaMode::numactl}) {
    if (*given == name_of(mode)) return mode;
  }
  return NumaMode::off;
}

namespace {

/// Found once: `bench` asks for each row, and hwloc takes milliseconds.
std::shared_ptr<const NodeUse> found_nodes(NumaMode mode) {
  static std::map<NumaMode, std::shared_ptr<const NodeUse>> found;
  std::shared_ptr<const NodeUse>& nodes = found[mode];
  if (nodes == nullptr) nodes = std::make_shared<const NodeUse>(use_nodes(mode));
  return nodes;
}

std::optional<int> asked_threads(const Options& options, std::string_view name) {
  if (!applies_to(*find_option(name), options.command())) return std::nullopt;
  const auto n = options.find_integer(name);
  return n ? std::optional(static_cast<int>(*n)) : std::nullopt;
}

/// For single tokens, or for micro-batches.
WorkerPlan planned_workers(const Options& options, const NodeUse& nodes, bool is_batch) {
  const auto of_batch = is_batch ? asked_threads(options, "threads-batch") : std::nullopt;
  WorkerPlan workers =
      plan_workers(nodes.plan, of_batch ? of_batch : asked_threads(options, "threads"));
  for (std::string& note : workers.notes) {
    if (of_batch && note.starts_with("-t ")) note.insert(2, "b");
  }
  return workers;
}

}  // namespace

std::shared_ptr<const NodeUse> nodes_of(const Options& options) {
  return found_nodes(numa_mode(options));
}

void set_threads(const Options& options, ExecutionOptions& execution) {
  if (options.command() == "plan" && options.is_set("machine")) {
    const int n_threads = asked_threads(options, "threads").value_or(usable_cores());
    execution.n_threads = n_threads;
    execution.n_threads_batch = asked_threads(options, "threads-batch").value_or(n_threads);
    return;
  }
  execution.nodes = nodes_of(options);
  execution.n_threads = planned_workers(options, *execution.nodes, false).n_threads();
  execution.n_threads_batch = planned_workers(options, *execution.nodes, true).n_threads();
}

std::vector<std::string> thread_notes(const Options& options) {
  const std::shared_ptr<const NodeUse> nodes = nodes_of(options);
  std::vector<std::string> notes = planned_workers(options, *nodes, false).notes;
  for (std::string& note : planned_workers(options, *nodes, true).notes) {
    if (std::find(notes.begin(), notes.end(), note) == notes.end()) {
      notes.push_back(std::move(note));
    }
  }
  return notes;
}

void log_thread_notes(const Options& options) {
  for (const std::string& note : thread_notes(options)) log_info(note);
}

void log_nodes(const Options& options, const Engine& engine) {
  const NodeUse& nodes = *engine.options().execution.nodes;
  const NodePlan& plan = nodes.plan;
  const auto log = nodes.is_special() ? log_info : log_detail;
  log(node_use_text(nodes));
  for (const std::string& note : plan.notes) log_info(note);
  log_thread_notes(options);
  const std::string text = node_plan_text(plan, planned_workers(options, nodes, false));
  for (const std::string& line : split(text, '\n')) {
    if (!line.empty()) log_detail(line);
  }
  if (!plan.is_bound) return;
  if (!engine.model().is_packed()) {
    return log_info(
        "weights are read from the mapped file, whose pages are wherever they were first read: "
        "--numa places threads alone; with -rtr 1 weights are packed into memory of the nodes");
  }
  for (const std::string& line : arena_lines(nodes, engine.model().packed_report())) {
    log_info(line);
  }
}

}  // namespace hybrid::commands

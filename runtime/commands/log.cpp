#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>

#include "runtime/commands/command.h"

namespace hybrid::commands {
namespace {

/// The message as a JSON string.
class JsonMessage : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& msg, const std::tm&,
              spdlog::memory_buf_t& out) override {
    constexpr auto kReplace = nlohmann::json::error_handler_t::replace;
    const std::string text = nlohmann::json(std::string(msg.payload.data(), msg.payload.size()))
                                 .dump(-1, ' ', false, kReplace);
    out.append(text.data(), text.data() + text.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<JsonMessage>();
  }
};

}  // namespace

void set_up_log(const Options& options) {
  if (!applies_to(*find_option("verbose"), options.command())) return;  // it logs nothing
  auto logger = std::make_shared<spdlog::logger>("hybrid-run",
                                                 std::make_shared<spdlog::sinks::stderr_sink_st>());
  auto formatter = std::make_unique<spdlog::pattern_formatter>();
  if (options.get_toggle("log-json")) {
    formatter->add_flag<JsonMessage>('J').set_pattern(
        R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","message":%J})");
  } else {
    formatter->set_pattern("%v");
  }
  logger->set_formatter(std::move(formatter));
  logger->set_level(options.get_toggle("verbose") ? spdlog::level::debug : spdlog::level::info);
  spdlog::set_default_logger(logger);
}

void log_info(const std::string& message) { spdlog::info("{}", message); }

void log_detail(const std::string& message) { spdlog::debug("{}", message); }

}  // namespace hybrid::commands

#!/usr/bin/env python3
"""Writes tests/runtime/chat_template_cases.h: conversations as Python's jinja2 renders them.

usage: make_chat_template_cases.py TEMPLATE_FOLDER > tests/runtime/chat_template_cases.h

Whole templates come from the folder, as published; the short ones below keep of a published
template what plain conversations run through.
"""

import sys
from pathlib import Path

from jinja2.sandbox import ImmutableSandboxedEnvironment

SYSTEMS_JOINED = (
    "{%- set ns = namespace(system_prompt='', is_first_sp=true) -%}"
    "{%- for message in messages %}{%- if message['role'] == 'system' %}{%- if ns.is_first_sp %}"
    "{%- set ns.system_prompt = ns.system_prompt + message['content'] %}"
    "{%- set ns.is_first_sp = false %}{%- else %}"
    "{%- set ns.system_prompt = ns.system_prompt + '\\n\\n' + message['content'] %}"
    "{%- endif %}{%- endif %}{%- endfor %}{{ bos_token }}{{ ns.system_prompt }}"
)
SYSTEMS_JOINED_AND_LAST_USER = SYSTEMS_JOINED.replace(
    "is_first_sp=true", "is_first_sp=true, is_last_user=false")
SYSTEM_LAST = (
    "{%- set ns = namespace(system_prompt='') -%}"
    "{%- for message in messages %}{%- if message['role'] == 'system' %}"
    "{%- set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}"
    "{{bos_token}}{{ns.system_prompt}}"
)
CUT_THOUGHTS = (
    "{%- if '</think>' in content %}"
    "{%- set content = content.split('</think>')[-1] %}{%- endif %}"
)


def deepseek3(system, cut, opening):
    return (
        system + "{%- for message in messages %}"
        "{%- if message['role'] == 'user' %}{{'<｜User｜>' + message['content']}}{%- endif %}"
        "{%- if message['role'] == 'assistant' %}{%- set content = message['content'] %}" + cut +
        "{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endfor %}"
        "{% if add_generation_prompt %}{{'<｜Assistant｜>" + opening + "'}}{% endif %}"
    )


def user_opens_answer(user, cut):
    return (
        SYSTEMS_JOINED_AND_LAST_USER +
        "{%- for message in messages %}{%- set content = message['content'] %}"
        "{%- if message['role'] == 'user' %}{%- set ns.is_last_user = true -%}"
        "{{'<｜User｜>' + " + user + " + '<｜Assistant｜>'}}{%- endif %}"
        "{%- if message['role'] == 'assistant' %}{%- set ns.is_last_user = false -%}" + cut +
        "{{content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endfor -%}"
        "{% if add_generation_prompt and not ns.is_last_user %}{{'<｜Assistant｜>'}}{% endif %}"
    )


SHORT = {
    "deepseek-v2": (
        "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
        "{{ 'User: ' + message['content'] + '\n\n' }}{% elif message['role'] == 'assistant' %}"
        "{{ 'Assistant: ' + message['content'] + eos_token }}{% elif message['role'] == 'system' %}"
        "{{ message['content'] + '\n\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
    ),
    "deepseek-v3": deepseek3(SYSTEMS_JOINED, "", ""),
    "deepseek-r1": deepseek3(SYSTEM_LAST, CUT_THOUGHTS, "<think>\\n"),
    "deepseek-v3-0324": user_opens_answer("message['content']", ""),
    "deepseek-r1-0528": user_opens_answer("content", CUT_THOUGHTS),
    "deepseek-v3.1": (
        SYSTEMS_JOINED_AND_LAST_USER +
        "{%- for message in messages %}{%- if message['role'] == 'user' %}"
        "{%- set ns.is_last_user = true -%}{{'<｜User｜>' + message['content']}}{%- endif %}"
        "{%- if message['role'] == 'assistant' %}{%- if ns.is_last_user %}"
        "{{'<｜Assistant｜>'}}{{'</think>'}}{%- endif %}{%- set ns.is_last_user = false -%}"
        "{%- set content = message['content'] -%}{%- if '</think>' in content %}"
        "{%- set content = content.split('</think>', 1)[1] -%}{%- endif %}"
        "{{content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endfor -%}"
        "{%- if add_generation_prompt and ns.is_last_user %}{{'<｜Assistant｜>'}}{{'</think>'}}"
        "{% endif %}"
    ),
    "qwen2": (
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
        "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    "thinking chatml": (
        '{% for message in messages %}{{"<|im_start|>" + message["role"] + "\\n" + '
        'message["content"] + "<|im_end|>" + "\\n"}}{% endfor %}'
        '{% if add_generation_prompt %}{{ "<|im_start|>assistant\\n<think>\\n" }}{% endif %}'
    ),
}
WHOLE = ["llama-cpp-deepseek-r1", "deepseek-ai-DeepSeek-V3.1", "Qwen-Qwen3-0.6B", "Qwen3-Coder"]

CONVERSATIONS = [
    [("user", "Hello")],
    [("system", "Be brief."), ("user", "Hello"), ("assistant", "Hi there"), ("user", "Who?")],
    [("system", "  \n"), ("user", " a\n\n"), ("assistant", "\n b \n"), ("user", "\t")],
    [("user", "q"), ("assistant", "<think>\nhm</think>\n\none</think> two"), ("user", "r")],
    [("system", "One."), ("user", "q"), ("system", "Two."), ("user", "r")],
    [("user", "q"), ("assistant", "x"), ("assistant", "</think>y"), ("user", "z")],
    [("user", "q"), ("assistant", "<think>\n\nwhy\n</think>\n\n\nsince")],
    [("user", "q"), ("assistant", "<think>\nwhy</think>a"), ("assistant", "b")],
    [("system", "s"), ("assistant", "x")],
]


def literal(text):
    for plain, escaped in [("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\t", "\\t")]:
        text = text.replace(plain, escaped)
    return f'"{text}"'


def render(source, conversation, prompt):
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    messages = [{"role": role, "content": content} for role, content in conversation]
    return environment.from_string(source).render(
        messages=messages, add_generation_prompt=prompt, bos_token="<BOS>",
        eos_token="<｜end▁of▁sentence｜>")


def main():
    folder = Path(sys.argv[1])
    templates = [(name, source, "") for name, source in SHORT.items()]
    for name in WHOLE:
        file = f"{name}.jinja"
        templates.append((name, (folder / file).read_text(encoding="utf-8"), file))
    print("#pragma once")
    print("// Conversations as Python's jinja2 renders them; written by")
    print("// tests/python/make_chat_template_cases.py.")
    print("// clang-format off\n")
    print('#include <vector>\n\n#include "runtime/chat_template.h"\n')
    print("namespace hybrid::test {\n")
    print("inline const std::vector<std::vector<ChatMessage>> kConversations = {")
    for conversation in CONVERSATIONS:
        turns = ", ".join(f"{{ChatRole::{r}, {literal(c)}}}" for r, c in conversation)
        print(f"    {{{turns}}},")
    print("};\n")
    print("struct ChatCase {\n  const char* name;")
    print("  const char* source;  // \"\" for a golden file")
    print("  const char* file;\n  std::vector<const char*> with_prompt, without_prompt;")
    print("  // one per conversation\n};\n")
    print("inline const std::vector<ChatCase> kChatCases = {")
    for name, source, file in templates:
        print(f"    {{{literal(name)}, {literal('' if file else source)}, {literal(file)},")
        for prompt in (True, False):
            print("     {")
            for conversation in CONVERSATIONS:
                print(f"         {literal(render(source, conversation, prompt))},")
            print("     }," if prompt else "     }},")
    print("};\n\n}  // namespace hybrid::test")


main()

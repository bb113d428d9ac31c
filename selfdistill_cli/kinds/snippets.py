"""Python that loads a saved model and calls it as it was trained: what a model card shows.

Each text begins with `folder = "."`, the place of the model; values of a row stand as <column>.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from omegaconf import DictConfig

from selfdistill_cli.tasks.numbers import written_list
from selfdistill_cli.tasks.templates import Template


class PromptForm(NamedTuple):
    """How a language model's tokenizer takes a prompt."""

    closes: bool
    """It ends each text, which would end the prompt."""
    chat: bool
    """As a turn of a conversation in its own format."""


LOADED = """folder = "."  # where the model lies: this folder, or its name on the Hub
tokenizer = AutoTokenizer.from_pretrained(folder)
"""


def filled(setting: str) -> str:
    """A column or template with the columns' names where their values go, as a string of Python."""
    if "{" not in setting:
        return json.dumps(f"<{setting}>", ensure_ascii=False)
    pieces = [f"{piece.literal}<{piece.field}>" if piece.field else piece.literal for piece in Template(setting).pieces]
    return json.dumps("".join(pieces), ensure_ascii=False)


def labelled(settings: DictConfig, regression: bool, adapter: bool, one_text: bool) -> str:
    """Of a classifier or regressor. `one_text`: its tokenizer does not mark where a second text begins."""
    row = {"text": filled(settings.text)}
    if settings.text_pair:
        row["text_pair"] = filled(settings.text_pair)
    shown = ", ".join(f'"{name}": {value}' for name, value in row.items())
    if one_text and settings.text_pair:
        shown = f'"text": {row["text"]} + "\\n" + {row["text_pair"]}'
    how = 'function_to_apply="none"' if regression else "top_k=None"
    call = f"print(score({{{shown}}}, truncation=True, max_length={settings.max_length}))\n"
    if one_text and settings.text_pair:
        call = (
            "# Of a pair that is longer than max_length the longer text was cut in training; this cuts the end.\n"
            + call
        )
    if not adapter:
        return (
            "from transformers import pipeline\n\n"
            'folder = "."  # where the model lies: this folder, or its name on the Hub\n'
            f'score = pipeline("text-classification", model=folder, {how})\n' + call
        )
    head = (
        'num_labels=1, problem_type="regression"'
        if regression
        else "id2label=config.id2label, label2id=config.label2id"
    )
    return (
        "from peft import AutoPeftModelForSequenceClassification\n"
        "from transformers import AutoConfig, AutoTokenizer, pipeline\n\n"
        + LOADED
        + (
            ""
            if regression
            else 'config = AutoConfig.from_pretrained(f"{folder}/model_config.json")  # names of the classes\n'
        )
        + f"model = AutoPeftModelForSequenceClassification.from_pretrained(folder, {head})\n"
        + f'score = pipeline("text-classification", model=model, tokenizer=tokenizer, {how})\n'
        + call
    )


def generation(settings: DictConfig, config: Any, adapter: bool, form: PromptForm) -> str:
    """Of a language model that writes."""
    load, inputs = _language_model(settings, config, adapter, form)
    how = ", generation_config=GenerationConfig.from_pretrained(folder)" if adapter else ""
    rest = "[0]" if config.is_encoder_decoder else '[0, inputs["input_ids"].shape[1]:]'
    names = "AutoTokenizer, GenerationConfig" if adapter else "AutoTokenizer"
    return (
        load.replace("AutoTokenizer", names, 1)
        + inputs
        + f"written = model.generate(**inputs{how}){rest}\n"
        + "print(tokenizer.decode(written, skip_special_tokens=True))\n"
    )


def multiple_choice(settings: DictConfig, config: Any, adapter: bool, form: PromptForm) -> str:
    """Of a language model that chooses the answer whose tokens are likeliest on average."""
    load, inputs = _language_model(settings, config, adapter, form)
    forward = (
        "model(**inputs, labels=answer)"
        if config.is_encoder_decoder
        else 'model(input_ids=torch.cat([inputs["input_ids"], answer], 1),\n'
        '                 labels=torch.cat([torch.full_like(inputs["input_ids"], -100), answer], 1))'
    )
    return (
        "import torch\n"
        + load
        + inputs
        + '\n\ndef log_likelihood(choice):\n    "Mean over the tokens of the choice."\n'
        + '    answer = tokenizer(" " + choice, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]\n'
        + "    answer = torch.tensor([answer])\n"
        + f"    return -{forward}.loss.item()\n\n\n"
        + f"choices = {_choices(settings.choices)}\n"
        + "print(max(choices, key=log_likelihood))\n"
    )


def _choices(setting: str) -> str:
    """A Python list of the choices: of their templates, else of what the column that is named holds."""
    several = written_list(setting)
    return f"[{', '.join(map(filled, several))}]" if several else f'["<first of {setting}>", "<second>"]'


def _language_model(settings: DictConfig, config: Any, adapter: bool, form: PromptForm) -> tuple[str, str]:
    """Lines that import and load, and lines that make `inputs`."""
    name = "ForSeq2SeqLM" if config.is_encoder_decoder else "ForCausalLM"
    loader = f"AutoPeftModel{name}" if adapter else f"AutoModel{name}"
    imports = (
        f"from peft import {loader}\nfrom transformers import AutoTokenizer\n\n"
        if adapter
        else f"from transformers import AutoTokenizer, {loader}\n\n"
    )
    inputs = (
        f"prompt = {filled(settings.text)}\n"
        'inputs = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)\n'
    )
    if form.chat:
        asked = filled(settings.text) if not settings.get("messages") else '"<what is asked>"'
        inputs = (
            f'turns = [{{"role": "user", "content": {asked}}}]\n'
            "inputs = tokenizer.apply_chat_template(\n"
            '    turns, add_generation_prompt=True, return_tensors="pt", return_dict=True\n)\n'
        )
    elif form.closes and not config.is_encoder_decoder:
        inputs += "inputs = {name: tensor[:, :-1] for name, tensor in inputs.items()}  # without the end of sequence\n"
    return imports + LOADED + f"model = {loader}.from_pretrained(folder).eval()\n", inputs

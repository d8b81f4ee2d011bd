# ruff: noqa: E501
"""Chat answers as models give them, and the code that is found in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdmerge_llm.tasks.coding import completed, extract_code
from qdmerge_llm.tasks.coding._program import define
from qdmerge_llm.tasks.coding._reading import blocks, defines

CODE = "def add(a, b):\n    return a + b"

ANSWERS = {
    "fence": f"```python\n{CODE}\n```",
    "fence and prose": f"Sure! Here is the function:\n\n```python\n{CODE}\n```\n\nIt adds `a` to `b`.",
    "fence without language": f"Here you go:\n```\n{CODE}\n```",
    "other spellings of the language": f"```Python3\n{CODE}\n```",
    "attributes": f'```python title="add.py"\n{CODE}\n```',
    "windows": f"```python\r\n{CODE}\r\n```\r\n".replace("\n    ", "\r\n    "),
    "tildes": f"~~~python\n{CODE}\n~~~",
    "four marks": f"````python\n{CODE}\n````",
    "unclosed": f"Here it is:\n```python\n{CODE}",
    "unclosed, cut off in the next function": f"```python\n{CODE}\n\ndef test_add():\n    assert add(1,",
    "unclosed, then prose": f"```python\n{CODE}\n\nThis function adds two numbers.",
    "in a list": "1. The function:\n   ```python\n   def add(a, b):\n       return a + b\n   ```\n2. Done.",
    "usage first": f"You call it so:\n```python\nprint(add(1, 2))\n```\nand this is it:\n```python\n{CODE}\n```",
    "usage after": f"```python\n{CODE}\n```\nFor example:\n```python\n>>> add(1, 2)\n3\n```",
    "shell first": f"```bash\npip install nothing\n```\n```python\n{CODE}\n```",
    "a second version": f"```python\n{CODE}\n```\nOr:\n```python\ndef add(a, b):\n    return 0\n```",
    "unclosed before another": f"```\nadd(1, 2) -> 3\n```python\n{CODE}\n```",
    "tests in the block": f"```python\n{CODE}\n\nassert add(1, 2) == 3\nprint(add(1, 2))\n```",
    "main guard": f"```python\n{CODE}\n\nif __name__ == '__main__':\n    print(add(int(input()), 1))\n```",
    "no fence": CODE,
    "no fence, prose around": f"Here is the solution:\n\n{CODE}\n\nThis function takes two numbers.",
    "no fence, prose with keywords": f"import is not needed.\nfrom here on:\n{CODE}",
    "imports": f"```python\nimport math\nfrom typing import List\n\n{CODE}\n```",
    "lambda": "```python\nadd = lambda a, b: a + b\n```",
    "annotated": "```python\ndef add(a: int, b: int) -> int:\n    return a + b\n```",
    "docstring with a fence": '```python\ndef add(a, b):\n    """Like\n    >>> add(1, 2)\n    """\n'
    "    return a + b\n```",
    "inline": "Use ```python add = lambda a, b: a + b ```.",
    "code cell marks": f"[PYTHON]\n{CODE}\n[/PYTHON]",
    "helper": "```python\ndef plus(a, b):\n    return a + b\n\ndef add(a, b):\n    return plus(a, b)\n```",
    "decorated": "```python\nimport functools\n\n@functools.cache\ndef add(a, b):\n    return a + b\n```",
    "repl": f"```python\n{CODE}\n>>> add(1, 2)\n3\n```",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_function_is_found(name: str) -> None:
    add = define(extract_code(ANSWERS[name], "add"))["add"]
    assert add(2, 3) == 5


@pytest.mark.parametrize("text", ["", "```", "```python\n```", "I cannot.", "```python", "\n\n"])
def test_answers_without_code(text: str) -> None:
    try:
        names = define(extract_code(text, "add"))
    except SyntaxError:
        return
    assert "add" not in names


def test_a_wrong_name_stays_wrong() -> None:
    assert extract_code("```python\ndef plus(a):\n    pass\n```", "add").startswith("def plus")
    assert not defines("def add_all(x):\n    add(x)", "add")
    assert not defines("add == 1", "add")
    assert not defines("class A:\n    def add(self): pass", "add")


PROMPT = (
    "import math\n\n\ndef double(x):\n    return 2 * x\n\n\n"
    'def area(r: float) -> float:\n    """Area.\n    >>> round(area(1), 2)\n    3.14\n    """\n'
)
CONTINUED = {
    "body": "    return math.pi * r ** 2\n",
    "body in a fence": "```python\n    return math.pi * r ** 2\n```",
    "body without indent": "return math.pi * r ** 2",
    "body without indent, fenced": "```python\nif r < 0:\n    return 0\nreturn math.pi * r ** 2\n```",
    "body, then another function": "    return math.pi * r ** 2\n\n\ndef other():\n    pass\n",
    "body, then prose": "    return math.pi * r ** 2\n\nThis is the area.",
    "whole": "```python\ndef area(r: float) -> float:\n    return math.pi * r ** 2\n```",
    "whole, other spelling": "```python\ndef area(r):\n    return math.pi * double(r) ** 2 / 4\n```",
    "whole with the prompt": "```python\n" + PROMPT + "    return math.pi * r ** 2\n```",
    "whole without a fence": "Sure:\ndef area(r):\n    return math.pi * r ** 2\n",
    "helper redone": "```python\ndef double(x):\n    return x + x\n\ndef area(r):\n"
    "    return math.pi * double(r) * r / 2\n```",
}


@pytest.mark.parametrize("name", CONTINUED)
def test_functions_that_were_begun(name: str) -> None:
    code = completed(extract_code(CONTINUED[name], "area"), PROMPT, "area")
    area = define(code)["area"]
    assert area(2) == pytest.approx(12.566, abs=1e-3)


def test_blocks() -> None:
    text = "a\n```python\nx = 1\n```\nb\n```\ny\n\nz\n```\nc\n```js\nw"
    assert blocks(text) == ["x = 1", "y\n\nz", "w"]


@given(st.text(alphabet="`~ \n\tdef ad():=@x", max_size=80), st.text(max_size=20))
def test_nothing_upsets_extraction(first: str, second: str) -> None:
    code = extract_code(first + second, "add")
    assert isinstance(completed(code, PROMPT, "area"), str)

"""What the README shows runs as it stands there."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

import grains_lens as gl
from tests.oracles import PAIRS
from tests.vision_models import picture

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_there_is_an_example():
    assert BLOCKS


@pytest.mark.filterwarnings("ignore::grains_lens.CompletenessWarning")
@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_its_examples_run_on_a_model_and_a_file_of_ones_own(block, llama, llava, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture(0)).save("cats.png")
    rows = [{"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected} for pair in PAIRS]
    Path("truthful.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scope = {"model": llava.hooked if "images=" in block else llama}
    exec(block, scope)
    if "vectors.save(" in block:
        assert isinstance(gl.SteeringVectors.load("truthful.safetensors"), gl.SteeringVectors)

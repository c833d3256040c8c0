"""T2VQA-DB's labels are told from those of its Sora test, which nothing may be trained on."""

import pytest
from miniature import write_miniature
from small_judge import SCENES

from reward_model.datasets import read_dataset
from shapes_world.world import FPS, render
from videoduet.errors import InputError
from videoduet.video import write_video


@pytest.fixture
def clips(tmp_path):
    files = [tmp_path / f"{index}.mp4" for index in range(2)]
    for index, file in enumerate(files):
        write_video(file, render(SCENES[index].prompt, index)[:4], FPS)
    return files


@pytest.mark.parametrize("sora", ["sora.txt", "SORA_test.txt", "Sora/info.txt"])
def test_the_sora_test_is_no_training_data(tmp_path, clips, sora):
    folder = write_miniature("t2vqa_db", tmp_path / "data", clips)
    labels = folder / "info.txt"
    (folder / sora).parent.mkdir(exist_ok=True)
    (folder / sora).write_text(labels.read_text().splitlines()[0])
    whole = read_dataset("t2vqa_db", folder, "all").items
    labels.rename(folder / "videos" / "labels.TXT")
    assert read_dataset("t2vqa_db", folder, "all").items == whole
    (folder / "prompts.txt").write_text("a cat")
    with pytest.raises(InputError, match="holds prompts.txt, videos/labels.TXT; call the one"):
        read_dataset("t2vqa_db", folder, "all")
    (folder / "prompts.txt").unlink()
    (folder / "videos" / "labels.TXT").unlink()
    with pytest.raises(InputError, match="holds no info.txt"):
        read_dataset("t2vqa_db", folder, "all")

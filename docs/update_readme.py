"""Writes the results of a finished run of spirals_mlp_end2 into README, table and picture.

python main.py --experiment=spirals_mlp_end2 --set student.num_seeds=3
python docs/update_readme.py runs/spirals_mlp_end2
"""

import re
import sys
from pathlib import Path

from PIL import Image

from end2_tf import tables, workdir

ROOT = Path(__file__).resolve().parents[1]
PICTURE = "docs/spirals_uncertainty.png"
WIDTH = 1000  # pixels; a phone shows it whole, and the repository stays small


def main(run: Path) -> None:
    results = workdir.read_json(run / "results.json")
    heading, *lines = tables.cells(results)
    command = re.sub(r" --(workdir|stage)=\S+", "", results["command"])
    minutes = sum(results["seconds"].values()) / 60
    text = [
        f"`{command}` gives, after {minutes:.1f} minutes of training on two cores:",
        "",
        f"| {' | '.join(heading)} |",
        f"|---{'|--:' * (len(heading) - 1)}|",
        *(f"| {' | '.join(line)} |" for line in lines),
        "",
        *tables.legend(results),
        "ring_R: points on a ring of radius R around the spirals.",
        "",
        "One forward pass tells where classes overlap (data uncertainty) from where nothing was learnt (knowledge",
        "uncertainty), as the 100 networks do, as far out as it was shown inputs; in the corners it may be sure again:",
        "",
        f"![Total, data and knowledge uncertainty of the ensemble, the student and the true posterior]({PICTURE})",
    ]
    readme = ROOT / "README.md"
    block = "<!-- results -->\n" + "\n".join(text) + "\n<!-- end of results -->"
    old = readme.read_text(encoding="utf-8")
    readme.write_text(
        re.sub(r"<!-- results -->.*<!-- end of results -->", lambda _: block, old, flags=re.DOTALL), "utf-8"
    )
    image = Image.open(run / "report" / "uncertainty_maps.png").convert("RGB")
    image = image.resize((WIDTH, image.height * WIDTH // image.width), Image.Resampling.LANCZOS)
    image.quantize(128).save(ROOT / PICTURE, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Draw the flow of digits for the README and for previews of links: python book/readme_picture.py"""

from pathlib import Path

from odelib.book.front import flow_of_digits

figure = flow_of_digits()
figure.set_size_inches(8, 4.2)  # with 150 dots an inch 1200 x 630 pixels, what sites that show previews expect
figure.savefig(Path(__file__).parent / "_static" / "flow.png", dpi=150, facecolor="white")

"""Writes a small made-up catalogue: product titles with tags, for the tutorial about small models.

    python examples/make_products.py

writes products/train.jsonl (4,000 titles), dev.jsonl and test.jsonl (500 each). A title names a
product by one of several words, shops write titles in different orders, and a tenth of the tags
are missing, as in a real catalogue.
"""

import json
import random
from pathlib import Path

TYPES = {  # tags: words in titles
    "shoes sport running": ["running shoes", "trainers", "road runners"],
    "shoes casual": ["sneakers", "slip-ons", "canvas shoes"],
    "shoes outdoor hiking": ["hiking boots", "trail boots", "walking boots"],
    "shoes formal": ["oxfords", "derbies", "brogues"],
    "shoes summer": ["sandals", "flip-flops", "espadrilles"],
    "clothing tops": ["t-shirt", "tee", "crew neck shirt"],
    "clothing tops formal": ["dress shirt", "button-down", "poplin shirt"],
    "clothing tops winter": ["sweater", "pullover", "cable knit jumper"],
    "clothing outerwear winter": ["parka", "down jacket", "quilted coat"],
    "clothing outerwear rain": ["raincoat", "rain shell", "mackintosh"],
    "clothing trousers": ["jeans", "chinos", "slim fit pants"],
    "clothing trousers sport": ["joggers", "track pants", "leggings"],
    "clothing dresses": ["midi dress", "wrap dress", "sundress"],
    "clothing swimwear summer": ["swim shorts", "swimsuit", "board shorts"],
    "accessories bags": ["tote", "shoulder bag", "messenger bag"],
    "accessories bags outdoor hiking": ["rucksack", "daypack 20l", "trekking pack"],
    "accessories hats winter": ["beanie", "bobble hat", "wool cap"],
    "accessories hats summer": ["sun hat", "panama", "bucket hat"],
    "accessories watches": ["wrist watch", "chronograph", "dive watch"],
    "accessories belts": ["belt", "braided belt", "buckle belt"],
    "kitchen cookware": ["frying pan", "skillet", "saute pan"],
    "kitchen cookware baking": ["cake tin", "loaf pan", "muffin tray"],
    "kitchen knives": ["chef's knife", "santoku", "paring knife"],
    "kitchen drinkware": ["mug", "tumbler", "travel cup"],
    "kitchen appliances": ["kettle", "toaster", "hand blender"],
    "home lighting": ["desk lamp", "floor lamp", "pendant light"],
    "home textiles": ["cushion", "throw blanket", "duvet cover"],
    "home storage": ["storage box", "shelf basket", "drawer organiser"],
    "garden tools": ["pruning shears", "hand trowel", "garden fork"],
    "garden furniture": ["deck chair", "garden bench", "parasol"],
    "sport yoga": ["yoga mat", "foam roller", "yoga block"],
    "sport cycling": ["bike helmet", "cycling gloves", "bottle cage"],
    "outdoor camping": ["tent 2 person", "sleeping bag", "camping stove"],
    "toys wooden": ["building blocks", "toy train", "shape sorter"],
    "toys plush": ["teddy bear", "plush rabbit", "soft dinosaur"],
    "office stationery": ["notebook a5", "fountain pen", "desk pad"],
}
DETAILS = {
    "leather": ["leather", "full grain leather", "suede"],
    "cotton": ["cotton", "organic cotton", "100% cotton"],
    "wool": ["merino", "lambswool", "wool"],
    "linen": ["linen", "linen blend"],
    "steel": ["stainless steel", "brushed steel"],
    "wood": ["oak", "beech", "walnut"],
    "recycled": ["recycled", "rPET", "made from bottles"],
    "waterproof": ["waterproof", "gore-tex", "water repellent"],
    "black": ["black", "jet black", "onyx"],
    "blue": ["blue", "navy", "indigo"],
    "red": ["red", "burgundy", "crimson"],
    "green": ["green", "olive", "sage"],
    "grey": ["grey", "charcoal", "slate"],
    "white": ["white", "off-white", "ivory"],
    "women": ["women's", "ladies", "for her"],
    "men": ["men's", "gents", "for him"],
    "kids": ["kids", "junior", "age 5-8"],
    "gift": ["gift set", "gift boxed"],
    "sale": ["last season", "outlet"],
}
BRANDS = [
    first + last for first in ("Al", "Bor", "Cas", "Dun", "El") for last in ("ta", "vik", "en")
]


def product(source):
    """One title and its tags."""
    tags, words = source.choice(list(TYPES.items()))
    details = source.sample(list(DETAILS), source.randint(1, 4))
    parts = [source.choice(words), *(source.choice(DETAILS[name]) for name in details)]
    source.shuffle(parts)
    title = " ".join([source.choice(BRANDS), *parts])
    kept = [tag for tag in (*tags.split(), *details) if source.random() > 0.1]
    return {"text": title, "labels": sorted(kept) or [tags.split()[0]]}


def main():
    """Writes the three files."""
    source, folder = random.Random(0), Path("products")
    folder.mkdir(exist_ok=True)
    for split, count in (("train", 4000), ("dev", 500), ("test", 500)):
        lines = (json.dumps(product(source)) + "\n" for _ in range(count))
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    print(f"wrote {folder}/train.jsonl, dev.jsonl and test.jsonl")


if __name__ == "__main__":
    main()

"""Writes a file of made-up support tickets, for the tutorials.

    python examples/make_tickets.py

writes tickets.csv (4,000 tickets with the queue that each belongs to) and new_tickets.csv (200
without). People name a thing by one of several words, ramble, and mention other things in passing;
one ticket in thirty stands in a wrong queue, and some are there twice, as in a real help desk.
"""

import csv
import random

QUEUES = {  # what it is about, and what is said of it
    "login": (
        ["password", "login", "two-factor code", "account", "sign-in page", "reset link"],
        ["does not work any more", "is rejected", "expired before I could use it", "locks me out",
         "never reaches my inbox", "asks me again and again"],
    ),
    "invoice": (
        ["invoice", "bill", "statement", "VAT number on the invoice", "receipt", "invoice address"],
        ["is missing", "shows the wrong company", "is needed as PDF by our accountant",
         "does not match the order", "was sent twice", "has to be corrected for last quarter"],
    ),
    "payment": (
        ["credit card", "direct debit", "bank transfer", "payment", "card payment", "IBAN"],
        ["was declined", "was charged twice", "fails at the last step", "is not booked yet",
         "has to be changed before the next debit", "was refused by the bank"],
    ),
    "refund": (
        ["refund", "money back", "credit note", "reimbursement", "returned amount"],
        ["has not arrived after two weeks", "is lower than promised", "went to a closed account",
         "was announced but nothing came", "is still pending"],
    ),
    "delivery": (
        ["parcel", "shipment", "delivery", "package", "tracking number", "courier"],
        ["is a week late", "went to our old address", "was left in the rain",
         "has not moved since Monday", "is marked as delivered but is not here", "got lost"],
    ),
    "return": (
        ["return label", "return", "exchange", "unwanted parcel", "pick-up of the return"],
        ["cannot be printed", "has to be extended", "is for a different size",
         "was not accepted at the shop", "should be free of charge"],
    ),
    "broken item": (
        ["screen", "keyboard", "power supply", "hinge", "battery", "fan", "charging cable"],
        ["arrived cracked", "stopped working after three days", "makes a loud noise",
         "gets very hot", "is dead on arrival", "broke off"],
    ),
    "warranty": (
        ["warranty", "guarantee", "repair under warranty", "warranty card", "three-year cover"],
        ["is it still valid", "was refused", "takes how long", "covers water damage or not",
         "needs which papers"],
    ),
    "app crash": (
        ["app", "mobile app", "Android version", "iPhone version", "start screen", "camera view"],
        ["crashes when I open it", "freezes after the update", "shows a white screen",
         "closes by itself", "does not start on my tablet", "hangs while loading"],
    ),
    "sync": (
        ["calendar sync", "contacts", "files", "folders", "backup", "notes on my second device"],
        ["do not appear on the laptop", "are duplicated", "stopped syncing yesterday",
         "are an older version", "take hours to upload", "were overwritten"],
    ),
    "performance": (
        ["dashboard", "search", "report page", "web client", "export", "database view"],
        ["takes a minute to load", "is extremely slow since this morning", "times out",
         "is slow with many rows", "keeps spinning"],
    ),
    "access rights": (
        ["new colleague", "our intern", "shared folder", "admin role", "guest user", "team space"],
        ["needs permission", "cannot see the project", "should only be able to read",
         "has too many rights", "must be removed today", "gets access denied"],
    ),
    "cancellation": (
        ["subscription", "contract", "plan", "membership", "trial"],
        ["should end this month", "was renewed although I cancelled", "needs how much notice",
         "has to be stopped", "cannot be cancelled online"],
    ),
    "upgrade": (
        ["larger plan", "more seats", "business edition", "extra storage", "yearly plan"],
        ["how much would it cost", "can we switch in the middle of the month",
         "has a discount for schools", "is needed for ten people", "what does it include"],
    ),
    "privacy": (
        ["personal data", "privacy policy", "cookies", "my address", "tracking", "GDPR request"],
        ["should be deleted", "is stored for how long", "was passed on to whom",
         "must not be used for advertising", "where is it kept"],
    ),
    "feature request": (
        ["dark mode", "keyboard shortcuts", "export to Excel", "calendar view", "filter", "API"],
        ["would be great to have", "is what we miss most", "any plans for it",
         "could you please add it", "exists in other products"],
    ),
}  # fmt: skip
OPENINGS = [
    "Hello,", "Hi there,", "Dear team,", "Good morning,", "To whom it may concern,", "Hey,", "",
    "Third time I am writing.", "Sorry to bother you.", "Quick question:", "URGENT!",
]  # fmt: skip
ASIDES = [
    "I am a customer since 2019.", "My colleague has the same problem.", "I already called twice.",
    "Order {number}.", "Please answer by e-mail.", "We need this until Friday.",
    "I have attached a screenshot.", "Restarting did not help.", "Otherwise I am happy with you.",
    "My account number is {number}.", "Your chatbot could not help me.", "It worked last week.",
]  # fmt: skip
CLOSINGS = ["Thanks", "Best regards", "Thank you in advance", "Cheers", "Regards, {name}", ""]
NAMES = ["Ana", "Bo", "Chidi", "Dara", "Emre", "Fay", "Goran", "Hana", "Ines", "Jun"]
VAGUE = ["Problem", "Help needed", "Question", "Not happy", "Ticket", "Please help", "Again"]


def ticket(source):
    """One ticket: subject, body and queue."""
    queue = source.choice(list(QUEUES))
    things, complaints = QUEUES[queue]
    thing, complaint = source.choice(things), source.choice(complaints)
    subject = source.choice([thing, f"{thing} {complaint}", source.choice(VAGUE)])
    sentences = [f"{source.choice(['The', 'My', 'Our', 'About the'])} {thing} {complaint}."]
    if source.random() < 0.15:  # said in the subject alone
        subject = f"{thing} {complaint}"
        sentences = ["See above."]
    if source.random() < 0.35:  # something else in passing
        other = source.choice(list(QUEUES))
        sentences.append(f"And the {source.choice(QUEUES[other][0])} too, but that can wait.")
    sentences += source.sample(ASIDES, source.randint(0, 3))
    source.shuffle(sentences)
    body = " ".join([source.choice(OPENINGS), *sentences, source.choice(CLOSINGS)]).strip()
    body = body.replace("{number}", str(source.randint(10_000, 99_999)))
    body = body.replace("{name}", source.choice(NAMES))
    if source.random() < 1 / 30:
        queue = source.choice(list(QUEUES))
    return subject.capitalize(), body, queue


def write(path, columns, rows):
    """Writes a table."""
    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)


def main():
    """Writes the two files."""
    source = random.Random(0)
    rows = []
    while len(rows) < 4000:
        again = rows and source.random() < 0.01
        rows.append(source.choice(rows) if again else ticket(source))
    columns = ("id", "subject", "body", "queue")
    write("tickets.csv", columns, [(1000 + n, *row) for n, row in enumerate(rows)])
    new = [ticket(source)[:2] for _ in range(200)]
    write("new_tickets.csv", columns[:3], [(6000 + n, *row) for n, row in enumerate(new)])
    print("wrote tickets.csv and new_tickets.csv")


if __name__ == "__main__":
    main()

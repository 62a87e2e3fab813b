"""A corpus in three languages that the benchmark owns: facts, each in a file of its own with other things around it,
questions about them in other words than the file has, and questions that nothing in it answers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LANGUAGES = ("en", "de", "it")


@dataclass(frozen=True)
class Fact:
    """By language: what a file says, and what is asked about it."""

    name: str
    texts: tuple[str, str, str]
    questions: tuple[str, str, str]


FACTS = (
    Fact(
        "deposit",
        (
            "The deposit for the flat in Turin was 1,200 euros. Mrs Rossi gives it back when we move out.",
            "Die Kaution für die Wohnung in Turin betrug 1.200 Euro. Frau Rossi zahlt sie beim Auszug zurück.",
            "La cauzione per l'appartamento di Torino era di 1.200 euro. La signora Rossi la restituisce all'uscita.",
        ),
        (
            "How much did we pay as security for the apartment?",
            "Wie hoch war die Kaution der Wohnung?",
            "Quanto abbiamo versato di cauzione per la casa?",
        ),
    ),
    Fact(
        "boiler",
        (
            "The boiler was serviced on 14 October by Weber; the next inspection is due in two years.",
            "Der Heizkessel wurde am 14. Oktober von Weber gewartet; die nächste Inspektion ist in zwei Jahren fällig.",
            "La caldaia è stata revisionata il 14 ottobre da Weber; il prossimo controllo è fra due anni.",
        ),
        (
            "When was the heating last inspected?",
            "Wann wurde der Kessel zuletzt gewartet?",
            "Quando è stata controllata la caldaia?",
        ),
    ),
    Fact(
        "insurance",
        (
            "The car insurance with Allianz ends on 3 May unless it is renewed in writing a month before.",
            "Die Autoversicherung bei der Allianz endet am 3. Mai, wenn sie nicht einen Monat vorher verlängert wird.",
            "L'assicurazione dell'auto con Allianz scade il 3 maggio se non viene rinnovata un mese prima.",
        ),
        (
            "Until when is the vehicle insured?",
            "Bis wann ist das Auto versichert?",
            "Fino a quando è assicurata la macchina?",
        ),
    ),
    Fact(
        "wifi",
        (
            "The password of the guest network in the office is printed on the back of the router by the window.",
            "Das Passwort des Gästenetzes im Büro steht auf der Rückseite des Routers am Fenster.",
            "La password della rete ospiti in ufficio è stampata sul retro del router vicino alla finestra.",
        ),
        (
            "Where do visitors find the wireless password at work?",
            "Wo finde ich das Passwort für Gäste im Büro?",
            "Dove trovo la password della rete per gli ospiti?",
        ),
    ),
    Fact(
        "allergy",
        (
            "Lukas is allergic to hazelnuts: at the birthday there must be no cake with nuts.",
            "Lukas ist gegen Haselnüsse allergisch: Beim Geburtstag darf kein Kuchen mit Nüssen stehen.",
            "Lukas è allergico alle nocciole: al compleanno non ci devono essere torte con noci.",
        ),
        (
            "What food is dangerous for Lukas?",
            "Wogegen ist Lukas allergisch?",
            "A che cosa è allergico Lukas?",
        ),
    ),
    Fact(
        "plums",
        (
            "The plum tree behind the barn bears fruit in September; the ladder is in the neighbour's shed.",
            "Der Pflaumenbaum hinter der Scheune trägt im September; die Leiter steht im Schuppen des Nachbarn.",
            "Il susino dietro il fienile dà frutti a settembre; la scala è nel capanno del vicino.",
        ),
        (
            "In which month can we harvest behind the barn?",
            "Wann werden die Pflaumen hinter der Scheune reif?",
            "In che mese si raccolgono i frutti dietro il fienile?",
        ),
    ),
    Fact(
        "backup",
        (
            "Every night at two the server copies its disks to the cellar; copies are kept for ninety days.",
            "Jede Nacht um zwei kopiert der Server seine Platten in den Keller; Kopien bleiben neunzig Tage.",
            "Ogni notte alle due il server copia i dischi in cantina; le copie restano novanta giorni.",
        ),
        (
            "How long are backups stored?",
            "Wie viele Tage bleiben die Kopien des Servers?",
            "Per quanti giorni restano le copie del server?",
        ),
    ),
    Fact(
        "train",
        (
            "The night train to Vienna leaves Verona at 22:38 from platform 4, bicycles only with a reservation.",
            "Der Nachtzug nach Wien fährt in Verona um 22:38 von Gleis 4 ab, Fahrräder nur mit Reservierung.",
            "Il treno notturno per Vienna parte da Verona alle 22:38 dal binario 4, biciclette solo con prenotazione.",
        ),
        (
            "At what time does the sleeper go to Austria's capital?",
            "Von welchem Gleis fährt der Zug nach Wien?",
            "Da quale binario parte il treno per Vienna?",
        ),
    ),
    Fact(
        "dentist",
        (
            "Dr Marini moved: her practice is now in Via Garibaldi 8, second floor, and closed on Wednesdays.",
            "Frau Dr. Marini ist umgezogen: Die Praxis ist jetzt in der Via Garibaldi 8 und mittwochs geschlossen.",
            "La dottoressa Marini si è trasferita: lo studio ora è in via Garibaldi 8 ed è chiuso il mercoledì.",
        ),
        (
            "On which day is the dentist's office shut?",
            "An welchem Tag ist die Praxis geschlossen?",
            "In che giorno è chiuso lo studio della dottoressa?",
        ),
    ),
    Fact(
        "thesis",
        (
            "The thesis has to be handed in as PDF by 30 June, two printed copies go to the secretary's office.",
            "Die Abschlussarbeit ist bis 30. Juni als PDF abzugeben, zwei gedruckte Exemplare gehen ins Sekretariat.",
            "La tesi va consegnata in PDF entro il 30 giugno, due copie stampate vanno in segreteria.",
        ),
        (
            "What is the deadline for submitting the dissertation?",
            "Bis wann muss die Arbeit abgegeben werden?",
            "Entro quando si consegna la tesi?",
        ),
    ),
    Fact(
        "roof",
        (
            "Rain comes in above the attic stairs; the roofer Bianchi wants 3,400 euros to mend the tiles.",
            "Über der Treppe zum Dachboden regnet es herein; der Dachdecker Bianchi verlangt 3.400 Euro.",
            "Sopra la scala della soffitta entra la pioggia; il muratore Bianchi chiede 3.400 euro per le tegole.",
        ),
        (
            "What would it cost to repair the leak in the roof?",
            "Wie viel verlangt der Dachdecker?",
            "Quanto chiede Bianchi per le tegole?",
        ),
    ),
    Fact(
        "cat",
        (
            "While we are away Paolo feeds the cat; her pills for the kidneys are in the blue tin.",
            "Während wir weg sind, füttert Paolo die Katze; ihre Tabletten für die Nieren sind in der blauen Dose.",
            "Mentre siamo via Paolo dà da mangiare al gatto; le pastiglie per i reni sono nella scatola blu.",
        ),
        (
            "Where is the medicine of our pet?",
            "Wo sind die Tabletten der Katze?",
            "Dove sono le pastiglie del gatto?",
        ),
    ),
)
UNANSWERED = (
    "Who won the football championship in Brazil?",
    "How do volcanoes erupt under the sea?",
    "What is the boiling point of mercury?",
    "Which composer wrote the requiem in D minor?",
    "Wie viele Monde hat der Jupiter?",
    "Wer malte die Mona Lisa?",
    "Qual è la distanza tra la Terra e la Luna?",
    "Chi ha inventato il telefono?",
)
FILLER = {
    "en": (
        "On Monday we talked about the budget of the choir and moved the concert to spring.",
        "The minutes of the meeting were sent to everybody, nobody objected.",
        "The shop had no screws of that length, so the shelf stays where it is.",
        "Anna wrote that the weather by the sea was good and the water still warm.",
        "The printer needs new ink, black and yellow, and the drawer is stuck again.",
        "We walked to the village along the river and ate soup in the inn.",
    ),
    "de": (
        "Am Montag sprachen wir über das Budget des Chors und verschoben das Konzert auf den Frühling.",
        "Das Protokoll der Sitzung ging an alle, niemand hat widersprochen.",
        "Im Laden gab es keine Schrauben dieser Länge, das Regal bleibt also, wo es ist.",
        "Anna schrieb, dass das Wetter am Meer gut war und das Wasser noch warm.",
        "Der Drucker braucht neue Tinte, Schwarz und Gelb, und die Schublade klemmt wieder.",
        "Wir gingen am Fluss entlang ins Dorf und aßen im Gasthaus eine Suppe.",
    ),
    "it": (
        "Lunedì abbiamo parlato del bilancio del coro e spostato il concerto in primavera.",
        "Il verbale della riunione è andato a tutti, nessuno ha avuto obiezioni.",
        "In negozio non c'erano viti di quella lunghezza, quindi la mensola resta dov'è.",
        "Anna ha scritto che al mare il tempo era bello e l'acqua ancora calda.",
        "La stampante ha bisogno di inchiostro nero e giallo, e il cassetto si blocca di nuovo.",
        "Siamo andati al paese lungo il fiume e abbiamo mangiato una minestra in locanda.",
    ),
}


def write_corpus(folder: Path, *, fillers: int = 160, seed: int = 1) -> None:
    """A file for each fact and language, and ``fillers`` others."""
    source = random.Random(seed)
    for at, language in enumerate(LANGUAGES):
        (folder / language).mkdir(parents=True)
        for fact in FACTS:
            paragraphs = [*source.sample(FILLER[language], 3), fact.texts[at]]
            source.shuffle(paragraphs)
            (folder / language / f"{fact.name}.md").write_text("\n\n".join(paragraphs))
        for number in range(fillers // len(LANGUAGES)):
            (folder / language / f"note-{number}.md").write_text(filler(source, language, 12))


def filler(source: random.Random, language: str, sentences: int) -> str:
    """A text about nothing that is asked."""
    chosen: Sequence[str] = source.choices(FILLER[language], k=sentences)
    return "\n\n".join(f"{sentence} ({source.randrange(10**6)})" for sentence in chosen)

"""Words that hold sentences together in languages that many people write, without accents: a question is full of them,
and they say nothing about what it is about."""

from __future__ import annotations

ENGLISH = """
a about after all am an and any are as at be been being but by can could did do does for from had has have he her his
how i if in into is it its me my no not of on or our she should so some than that the their them there these they
this those to was we were what when where which who whom whose why will with would you your
"""
GERMAN = """
aber alle als am an auch auf aus bei bin bis das dass dem den der des die dies diese dieser du durch ein eine einem
einen einer er es fur hat haben hatte ich ihr im in ist kann kein man mein mit nach nicht noch nur oder ob sein sich sie
sind so uber um und uns unser vom von vor wann war waren warum was welche welcher welches wem wen wenn wer werden wie
wieviel wir wird wo womit wurde wurden zu zum zur
"""
ITALIAN = """
a ad al alla alle anche c che chi ci come con cosa cui d da dal dalla de dei del della delle di do dove e ed era fu gli
ha hanno ho i il in io l la le lo ma mi ne nei nel nella non o per perche piu qual quale quali quando quanta quante
quanti quanto questa questo se si sono su sul sulla ti tra tu un una uno
"""
FRENCH = """
a au aux avec ce ces cette comment combien d dans de des du elle en est et eu il ils j je l la le les leur lui m mais me
n ne nous on ou par pas pour pourquoi qu quand que quel quelle quelles quels qui quoi s sa se ses son sont sur t tu un
une vous y
"""
SPANISH = """
a al como con cual cuales cuando cuanta cuantas cuanto cuantos de del donde el ella en era es esta este fue ha hay la
las le lo los me mi no nos o para pero por porque que quien quienes se ser si sin sobre son su sus te un una y yo
"""
FUNCTION_WORDS = frozenset(" ".join((ENGLISH, GERMAN, ITALIAN, FRENCH, SPANISH)).split())

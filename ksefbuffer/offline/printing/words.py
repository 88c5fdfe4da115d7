"""Codes of FA(3), FA(2) and FA_RR in Polish words. Source: FA3-FIELDS §1, §7, §8, §9 and the schemas' dictionaries."""

from __future__ import annotations

KINDS = {
    "VAT": "Faktura",
    "KOR": "Faktura korygująca",
    "ZAL": "Faktura zaliczkowa",
    "ROZ": "Faktura rozliczeniowa",
    "UPR": "Faktura uproszczona",
    "KOR_ZAL": "Faktura korygująca fakturę zaliczkową",
    "KOR_ROZ": "Faktura korygująca fakturę rozliczeniową",
    "VAT_RR": "Faktura VAT RR",
    "KOR_VAT_RR": "Faktura VAT RR korygująca",
}
UBL_KINDS = {
    "380": "Faktura PEF",
    "381": "Faktura korygująca PEF",
    "384": "Faktura korygująca PEF",
    "386": "Faktura zaliczkowa PEF",
    "389": "Faktura PEF (samofakturowanie)",
}
WHAT_IS_DUE = {
    "ZAL": "Otrzymana zapłata (zaliczka)",
    "KOR_ZAL": "Korekta kwoty zapłaty",
    "ROZ": "Kwota pozostała do zapłaty",
    "KOR_ROZ": "Korekta kwoty pozostałej do zapłaty",
    "KOR": "Kwota korekty",
    "KOR_VAT_RR": "Kwota korekty",
}
MODES = {
    "offline24": "offline24 (art. 106nda ustawy)",
    "niedostępność": "offline – niedostępność KSeF (art. 106nh ustawy)",
    "awaria": "awaryjny – awaria KSeF (art. 106nf ustawy)",
    "awaria całkowita": "awaria całkowita KSeF (art. 106ng ustawy)",
}
TYPES_OF_CORRECTION = {
    "1": "w dacie ujęcia faktury pierwotnej",
    "2": "w dacie wystawienia faktury korygującej",
    "3": "w dacie innej, w tym różnej dla poszczególnych pozycji",
}
# FA_RR: 3 is a single other date, 4 means different dates.
TYPES_OF_FARMERS_CORRECTION = {
    **TYPES_OF_CORRECTION,
    "3": "w dacie innej",
    "4": "w datach różnych dla poszczególnych pozycji",
}
ROLES = {
    "1": "Faktor",
    "2": "Odbiorca",
    "3": "Podmiot pierwotny",
    "4": "Dodatkowy nabywca",
    "5": "Wystawca faktury",
    "6": "Dokonujący płatności",
    "7": "Jednostka samorządu terytorialnego – wystawca",
    "8": "Jednostka samorządu terytorialnego – odbiorca",
    "9": "Członek grupy VAT – wystawca",
    "10": "Członek grupy VAT – odbiorca",
    "11": "Pracownik",
}
ROLES_OF_AUTHORISED = {"1": "Organ egzekucyjny", "2": "Komornik sądowy", "3": "Przedstawiciel podatkowy"}
STATES_OF_TAXPAYER = {
    "1": "podatnik w stanie likwidacji",
    "2": "podatnik w trakcie postępowania restrukturyzacyjnego",
    "3": "podatnik w stanie upadłości",
    "4": "przedsiębiorstwo w spadku",
}
PAYMENTS = {
    "1": "gotówka",
    "2": "karta",
    "3": "bon",
    "4": "czek",
    "5": "kredyt",
    "6": "przelew",
    "7": "płatność mobilna",
}
FARMERS_PAYMENTS = {"1": "przelew"}
OWN_ACCOUNTS = {
    "1": "rachunek banku do rozliczania nabywanych wierzytelności",
    "2": "rachunek banku do pobierania należności od nabywcy",
    "3": "rachunek własny banku (gospodarka własna)",
}
TRANSPORTS = {
    "1": "morski",
    "2": "kolejowy",
    "3": "drogowy",
    "4": "lotniczy",
    "5": "przesyłka pocztowa",
    "7": "stałe instalacje przesyłowe",
    "8": "żegluga śródlądowa",
}
LOADS = {
    "1": "bańka",
    "2": "beczka",
    "3": "butla",
    "4": "karton",
    "5": "kanister",
    "6": "klatka",
    "7": "kontener",
    "8": "kosz lub koszyk",
    "9": "łubianka",
    "10": "opakowanie zbiorcze",
    "11": "paczka",
    "12": "pakiet",
    "13": "paleta",
    "14": "pojemnik",
    "15": "pojemnik do ładunków masowych stałych",
    "16": "pojemnik do ładunków masowych w postaci płynnej",
    "17": "pudełko",
    "18": "puszka",
    "19": "skrzynia",
    "20": "worek",
}
RATES = {
    "zw": "zw.",
    "oo": "o.o.",
    "np": "np.",
    "np I": "np. I",
    "np II": "np. II",
    "0 KR": "0%",
    "0 WDT": "0% WDT",
    "0 EX": "0% eksport",
}
# Suffix of P_13/P_14 (P_14_1W too) to the rate's words, in the order of the form.
SUMS = {
    "1": "23% albo 22%",
    "2": "8% albo 7%",
    "3": "5%",
    "4": "4% albo 3% (ryczałt dla taksówek)",
    "5": "procedura OSS (dział XII rozdz. 6a)",
    "6_1": "0% – sprzedaż krajowa",
    "6_2": "0% – wewnątrzwspólnotowa dostawa towarów",
    "6_3": "0% – eksport",
    "7": "zwolnione od podatku",
    "8": "poza terytorium kraju",
    "9": "usługi z art. 100 ust. 1 pkt 4 ustawy",
    "10": "odwrotne obciążenie",
    "11": "procedura marży",
}
MARGINS = {
    "P_PMarzy_2": "procedura marży dla biur podróży",
    "P_PMarzy_3_1": "procedura marży – towary używane",
    "P_PMarzy_3_2": "procedura marży – dzieła sztuki",
    "P_PMarzy_3_3": "procedura marży – przedmioty kolekcjonerskie i antyki",
}


def rate(text: str) -> str:
    """P_12 as people write it: "23%", "zw."."""
    return RATES.get(text) or (f"{text.replace('.', ',')}%" if text.replace(".", "", 1).isdecimal() else text)

"""Top-level domains (IANA's root zone), as far as e-mail addresses are told from programs by them.

    COMMON           countries', and the generic ones that are seen most: what ends with one is an address
    GENERIC          more generic ones: words, so that what ends with one must look like an address besides
    OTHER_SCRIPTS    those that are not written in Latin letters

Not among them are brands', and what files and programs end with more often than addresses do: zip, mov, map, data, dot,
call, select, host, bar …
"""

_COMMON = """
    com org net edu gov mil int info biz name pro aero coop museum mobi jobs travel tel cat asia app dev cloud wiki top
    online shop site xyz tech store blog email club live news agency group company solutions services systems
    digital media network software design studio academy school university health care bank finance legal law today
    world life space website page link global international berlin hamburg koeln bayern wien paris london amsterdam
    nyc tokyo moscow photography consulting fun icu vip pub bio eco ngo ong ink win ltd gmbh llc inc srl sarl
    ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt
    bw by bz ca cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu fi fj
    fk fm fo fr ga gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is
    it je jm jo jp ke kg kh ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn
    mo mp mq mr ms mt mu mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt
    pw py qa re ro rs ru rw sa sb sc sd se sg sh si sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th tj tk tl
    tm tn to tr tt tv tw tz ua ug uk us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw
"""
COMMON = frozenset(_COMMON.split())

_GENERIC = """
    abogado abudhabi accountant accountants actor adult africa airforce alsace apartments archi army art associates
    attorney auction audio auto autos band bargains basketball bcn beauty beer best bet bible bid bike bingo black
    blackfriday blue boats bom bond bot boutique brussels build builders business buzz bzh cab cafe cam camera camp
    capetown capital car cards career careers cars casa cash casino catering catholic center ceo cern cfd charity chat
    cheap christmas church city claims cleaning click clinic clothing coach codes coffee college cologne community
    compare computer condos construction contact contractors cooking corsica country coupon coupons courses credit
    creditcard creditunion cricket cruise cruises cymru cyou dad dance dating dds deal deals degree delivery democrat
    dental dentist desi diamonds diet direct directory discount diy doctor dog domains download dubai durban earth
    education energy engineer engineering enterprises equipment esq estate eus events exchange expert exposed express
    fail faith family fan fans farm farmers fashion feedback film financial fish fishing fit fitness flights florist
    flowers football forex forsale forum foundation frl fund furniture futbol fyi gal gallery game games garden gay
    gdn gent gift gifts gives giving glass gold golf gop graphics gratis green gripe grocery guide guitars guru hair
    haus healthcare help helsinki hiphop hiv hockey holdings holiday homes horse hospital hosting hotels house ice
    immo immobilien industries ing institute insurance insure investments irish ismaili ist istanbul jetzt jewelry
    joburg juegos kaufen kids kim kitchen kiwi krd kyoto land lat latino lawyer lease lgbt lifestyle lighting limited
    limo living loan loans locker lol lotto love ltda luxe luxury madrid maison makeup management market marketing
    markets mba melbourne meme memorial men menu miami moda moe mom monash money monster mormon mortgage motorcycles
    movie music nagoya navy nexus nhk nico ninja nowruz nrw observer okinawa one onl ooo organic osaka ovh partners
    parts party pet pharmacy phd photo photos physio pics pictures pid pink pizza place plumbing plus poker politie
    porn post press productions prof promo properties property protection qpon quebec quest racing radio realestate
    realtor realty recipes red rehab reise reisen reit rent rentals repair report republican restaurant review reviews
    rich rio rip rocks rodeo rsvp rugby ruhr ryukyu saarland sale salon sbs scholarships schule science scot secure
    security sex sexy shiksha shoes shopping singles ski skin soccer social solar soy spa sport storage stream study
    style sucks supplies supply support surf surgery swiss sydney taipei tatar tattoo tax taxi team technology tennis
    theater theatre tickets tienda tips tires tirol tools tours town toys trade trading training trust tube tunes uno
    vacations vegas ventures versicherung vet viajes video villas vin vision vlaanderen vodka vote voting voto voyage
    wales wang watch watches weather webcam wed wedding wine work works wtf xihuan xxx yachts yoga yokohama zone
    zuerich
"""
GENERIC = frozenset(_GENERIC.split())

_OTHER_SCRIPTS = """
    бг бел дети ею католик ком қаз мкд мон москва онлайн орг рус рф сайт срб укр ελ ευ հայ გე ישראל קום
    الاردن البحرين الجزائر السعودية العراق المغرب امارات ایران بازار بيتك پاکستان تونس سودان سورية شبكة عرب عمان فلسطين
    قطر كوم مصر مليسيا موريتانيا موقع 中国 中國 公司 网络 网址 网站 在线 台湾 台灣 香港 澳門
    新加坡 한국 닷컴 닷넷 コム みんな 世界
"""
OTHER_SCRIPTS = tuple(_OTHER_SCRIPTS.split())

//! What only these pages say, in each language.

use doorstep_app::language::Language;

pub struct Own {
    pub sign_out: &'static str,
    pub sign_out_all: &'static str,
    pub sign_out_all_means: &'static str,
    pub signed_out: &'static str,
    pub too_often: &'static str,
    pub failed: &'static str,
    pub not_possible: &'static str,
    pub by_terminal: &'static str,
    pub router: &'static str,
    pub plan: &'static str,
    pub known: &'static str,
    pub by_secret: &'static str,
    pub secret: &'static str,
    pub secret_hint: &'static str,
    pub wrong_secret: &'static str,
    pub again: &'static str,
    pub no_numbers: &'static str,
}

pub fn own(language: Language) -> &'static Own {
    match language {
        Language::Chinese => &CHINESE,
        Language::English => &ENGLISH,
    }
}

static ENGLISH: Own = Own {
    sign_out: "Sign out on this phone",
    sign_out_all: "Sign out on all phones",
    sign_out_all_means: "If a phone was lost: whoever has it can do nothing more here.",
    signed_out: "You are not signed in on this phone any more, and nothing was done. Sign in, and do it \
                 once more.",
    too_often: "That was too often. Try again in {} seconds.",
    failed: "The operator's server could not do this. Try again later.",
    not_possible: "This cannot be done now.",
    by_terminal: "A terminal holds this connection and moves it: use its own page, at home.",
    router: "Connect your router to the line with its internet (WAN) port. It must get its address \
             automatically (DHCP), as most do. If it is not online after a minute, switch it off and on.",
    plan: "Plan",
    known: "This number is registered already. The operator can let this phone in: call them.",
    by_secret: "The operator has given me a secret",
    secret: "Secret",
    secret_hint: "Enter it as the operator has sent it to you, in one line.",
    wrong_secret: "The number and the secret do not belong together. The operator can make a new one.",
    again: "If you are registered already, you sign in with the same number.",
    no_numbers: "This is no number of a phone or an identity card. Look at it again.",
};

static CHINESE: Own = Own {
    sign_out: "在此手机上退出",
    sign_out_all: "在所有手机上退出",
    sign_out_all_means: "手机丢失时使用：拿到手机的人将无法再在此操作。",
    signed_out: "您在此手机上已退出登录，未执行任何操作。请登录后再试一次。",
    too_often: "操作过于频繁，请在 {} 秒后重试。",
    failed: "运营商的服务器未能完成此操作，请稍后再试。",
    not_possible: "现在无法执行此操作。",
    by_terminal: "此连接由终端保持，移机请在家中使用终端的页面。",
    router: "请用路由器的上网口（WAN）连接线路。路由器须自动获取地址（DHCP），多数路由器默认如此。\
             若一分钟后仍未上网，请关闭路由器后重新打开。",
    plan: "套餐",
    known: "该号码已注册。请致电运营商，由其为此手机开通。",
    by_secret: "运营商已给我密钥",
    secret: "密钥",
    secret_hint: "请按运营商发给您的内容输入，中间不换行。",
    wrong_secret: "号码与密钥不符。运营商可以重新生成密钥。",
    again: "如已注册，请用同一号码登录。",
    no_numbers: "这不是有效的手机号或身份证号，请检查。",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_its_place_in_each_language() {
        for language in Language::ALL {
            assert_eq!(own(language).too_often.matches("{}").count(), 1);
        }
    }
}
